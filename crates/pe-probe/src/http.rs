//! HTTP requests.
