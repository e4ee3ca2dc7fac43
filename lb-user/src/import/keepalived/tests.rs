//! What keepalived.conf may look like.
