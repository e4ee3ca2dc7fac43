//! Every metric once: its name, kind, labels and help. Names are public interface.

/// What a metric is and how it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until the agent or the tables start anew.
    Counter,
    /// Observations in buckets.
    Histogram,
}

/// The definition of a metric.
#[derive(Debug)]
pub struct Def {
    /// As scraped; ends in the base unit, and in `_total` for a counter.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Label names, in the order the code gives the values.
    pub labels: &'static [&'static str],
    /// One sentence, without the full stop.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help, ".")]
            pub const $ident: Def = Def {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// All of them, in the order of this file.
        pub const ALL: &[&Def] = &[$(&$ident),*];
    };
}

metrics! {
    BACKEND_UP = Gauge "xvip_backend_up" ["service", "backend"]
        "1 while the backend is up, 0 while it is down, draining or disabled";
    BACKEND_STATE = Gauge "xvip_backend_state" ["service", "backend", "state"]
        "1 for the state the backend is in, 0 for the others";
    BACKEND_TRANSITIONS = Counter "xvip_backend_transitions_total" ["service", "backend", "to"]
        "Changes of what health checks say of the backend, by what they say then";
    BACKEND_WEIGHT = Gauge "xvip_backend_weight" ["service", "backend"]
        "Configured weight of the backend";
    BACKEND_EFFECTIVE_WEIGHT = Gauge "xvip_backend_effective_weight" ["service", "backend"]
        "Weight of the backend now, less than the configured one during a slow start";
    BACKEND_MAX_CONNECTIONS = Gauge "xvip_backend_max_connections" ["service", "backend"]
        "Established connections that the backend may have; no series where any number";
    BACKEND_DRAIN_DEADLINE = Gauge "xvip_backend_drain_deadline_timestamp_seconds" ["service", "backend"]
        "When the connections of a backend that takes no new ones are reset, in seconds since the Unix epoch; no series otherwise";
    BACKEND_CONNECTIONS = Gauge "xvip_backend_connections" ["service", "backend"]
        "Established connections to the backend";
    BACKEND_CONNECTIONS_TOTAL = Counter "xvip_backend_connections_total" ["service", "backend"]
        "Connections to the backend that were established";
    BACKEND_SYN_RETRIES = Counter "xvip_backend_syn_retries_total" ["service", "backend", "reason"]
        "SYNs that went on to another backend because this one refused them (refused) or did not answer (unanswered)";
    BACKEND_HANDSHAKE_SECONDS = Histogram "xvip_backend_handshake_duration_seconds" ["service", "backend"]
        "Time from a SYN to the backend's SYN-ACK, measured by the datapath";
    LOCAL_CONNECTIONS = Counter "xvip_local_connections_total" ["service", "backend"]
        "Connections of this node's own clients to the backend, translated by the connect hooks";
    LOCAL_ATTACHED = Gauge "xvip_local_attached" []
        "1 while the connect hooks are attached and this node's own connections are translated";
    BACKEND_BYTES = Counter "xvip_backend_bytes_total" ["service", "backend", "direction"]
        "Bytes from clients (in) and to clients (out), Ethernet payload";
    BACKEND_PACKETS = Counter "xvip_backend_packets_total" ["service", "backend", "direction"]
        "Packets from clients (in) and to clients (out)";
    BACKEND_SOURCE_PORTS = Gauge "xvip_backend_source_ports" ["service", "backend", "state"]
        "Source ports towards the backend: in use, resting after a connection, and free";
    SERVICE_MAX_CONNECTIONS = Gauge "xvip_service_max_connections" ["service"]
        "Established connections that all backends of the service together may have; no series where any number";
    SERVICE_FAIL_OPEN = Gauge "xvip_service_fail_open" ["service"]
        "1 while every backend fails its checks and all are used all the same";
    HEALTH_CHECK_SECONDS = Histogram "xvip_health_check_duration_seconds" ["service", "backend"]
        "Duration of health checks, from connecting to the verdict";
    HEALTH_CHECKS = Counter "xvip_health_check_total" ["service", "backend", "result"]
        "Health checks that ended, by result";
    VRRP_STATE = Gauge "xvip_vrrp_state" ["router", "state"]
        "1 for the state the virtual router is in, 0 for the others";
    VRRP_STATE_SINCE = Gauge "xvip_vrrp_state_timestamp_seconds" ["router"]
        "When the virtual router entered its state, in seconds since the Unix epoch";
    VRRP_PRIORITY = Gauge "xvip_vrrp_priority" ["router"]
        "Configured priority of the virtual router";
    VRRP_TRANSITIONS = Counter "xvip_vrrp_transitions_total" ["router", "to"]
        "State changes of the virtual router, by the state entered";
    VRRP_ADVERTS = Counter "xvip_vrrp_adverts_total" ["router", "direction"]
        "VRRP advertisements sent, and received and accepted";
    VRRP_ADVERT_ERRORS = Counter "xvip_vrrp_advert_errors_total" ["router", "reason"]
        "VRRP advertisements refused, by reason";
    VRRP_LEASE_LAPSES = Counter "xvip_vrrp_lease_lapses_total" ["router"]
        "Times that the right to the addresses ran out before the next advert renewed it, because the agent had no time";
    GRATUITOUS_ARP = Counter "xvip_gratuitous_arp_total" ["router", "address"]
        "Gratuitous ARP announcements sent for the address";
    UNSOLICITED_NA = Counter "xvip_unsolicited_na_total" ["router", "address"]
        "Unsolicited neighbour advertisements sent for the IPv6 address";
    VIP_CLAIMS = Counter "xvip_vip_claims_total" ["router", "address"]
        "Times that another host said it has the address while this node held it, as told by the datapath, a few a second at most";
    DATAPATH_PACKETS = Counter "xvip_datapath_packets_total" ["verdict", "reason"]
        "Packets seen by the datapath, by what became of them and why; each packet counts once";
    DATAPATH_INFO = Gauge "xvip_datapath_info" ["mode", "interface"]
        "1, with the mode the datapath is attached in and the interface it is attached to";
    TABLE_ENTRIES = Gauge "xvip_connection_table_entries" ["table"]
        "Entries in use in the connection table; a flow has two";
    TABLE_CAPACITY = Gauge "xvip_connection_table_capacity" ["table"]
        "Entries the connection table can hold";
    TABLE_BYTES = Gauge "xvip_connection_table_bytes" ["table"]
        "Memory the table takes, where the kernel tells it (Linux 6.4)";
    DATAPATH_BYTES = Gauge "xvip_datapath_bytes" []
        "Memory all tables of the datapath take together, where the kernel tells it (Linux 6.4)";
    SYNC_PEER_UP = Gauge "xvip_sync_peer_up" ["peer"]
        "1 while flows are shared with the other balancer, 0 while it does not answer";
    SYNC_FLOWS = Counter "xvip_sync_flows_total" ["peer", "direction"]
        "Flows told to the other balancer (sent) and by it (received), those of whole tables included";
    SYNC_ENDS = Counter "xvip_sync_ended_flows_total" ["peer", "direction"]
        "Ends of flows told to the other balancer (sent) and by it (received)";
    SYNC_BYTES = Counter "xvip_sync_bytes_total" ["peer", "direction"]
        "Bytes of messages about flows, UDP payload";
    SYNC_DATAGRAMS = Counter "xvip_sync_datagrams_total" ["peer", "direction"]
        "Messages about flows";
    SYNC_TABLES = Counter "xvip_sync_tables_total" ["peer", "direction"]
        "Tables of flows told as a whole";
    SYNC_RESYNCS = Counter "xvip_sync_resyncs_total" ["peer"]
        "Times that more happened than could be told one by one, so that the whole table was told";
    SYNC_BACKLOG = Gauge "xvip_sync_backlog_datagrams" ["peer"]
        "Messages that the other balancer has not confirmed yet";
    SYNC_LAG = Histogram "xvip_sync_lag_seconds" ["peer"]
        "Time from the first change in a message until the other balancer has confirmed it";
    SYNC_REFUSED = Counter "xvip_sync_refused_datagrams_total" ["peer", "reason"]
        "Messages from the other balancer's address that were not believed, by reason";
    SYNC_STRANGERS = Counter "xvip_sync_stranger_datagrams_total" []
        "Messages from addresses of no peer";
    SYNC_ADOPTED = Counter "xvip_sync_adopted_flows_total" ["result"]
        "Flows of other balancers that were taken into the tables (taken), or why they were not";
    SYNC_DROPPED = Counter "xvip_sync_dropped_batches_total" []
        "Batches of flows that the tables had no time for, and that were asked for again";
    SYNC_EVENTS_LOST = Counter "xvip_sync_lost_events_total" []
        "Times that the datapath had more to tell than could be heard, so that the whole table was told";
    CONFIG_RELOADS = Counter "xvip_config_reloads_total" ["result"]
        "Configuration reloads since the start, by result";
    CONFIG_GOOD = Gauge "xvip_config_last_reload_successful" []
        "1 unless the last reload of the configuration was refused";
    CONFIG_APPLIED = Gauge "xvip_config_applied_timestamp_seconds" []
        "When the serving configuration was applied, in seconds since the Unix epoch";
    CONFIG_CHANGES = Gauge "xvip_config_unsaved_changes" []
        "Changes that commands have made and the file does not have; the next reload or start undoes them";
    EVENTS = Counter "xvip_events_total" []
        "State changes that `xvip events` tells of";
    READY = Gauge "xvip_ready" []
        "1 while /readyz says that the agent is ready";
    HEARTBEAT_AGE = Gauge "xvip_heartbeat_age_seconds" []
        "Time since the control loop last came round; from 10 seconds on /healthz says that it is dead";
    PROCESS_CPU = Counter "xvip_process_cpu_seconds_total" []
        "Processor time of the agent, without that of the datapath, which runs in the kernel's interrupts";
    PROCESS_MEMORY = Gauge "xvip_process_resident_memory_bytes" []
        "Memory of the agent that is resident; tables of the datapath are not among it";
    PROCESS_FDS = Gauge "xvip_process_open_fds" []
        "File descriptors that the agent has open";
    PROCESS_FDS_MAX = Gauge "xvip_process_max_fds" []
        "File descriptors that the agent may have open";
    START_TIME = Gauge "xvip_start_time_seconds" []
        "When the agent started, in seconds since the Unix epoch";
    PREDECESSOR_INFO = Gauge "xvip_agent_predecessor_info" ["ended"]
        "1, with how the agent before this one ended: none (it stopped, or there was none), handed_over, or died";
    NODE_INFO = Gauge "xvip_node_info" ["node", "role"]
        "1, with the node's name and what it is for";
    BUILD_INFO = Gauge "xvip_build_info" ["version"]
        "1, with the version of the agent";
}
