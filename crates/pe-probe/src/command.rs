//! A device's check by a program of the site's own.
