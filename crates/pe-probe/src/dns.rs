//! DNS queries with the device as server.
