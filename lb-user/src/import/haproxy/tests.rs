//! What haproxy.cfg may look like.
