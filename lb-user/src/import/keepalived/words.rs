//! The keywords of keepalived.conf that are known but have no counterpart, with the reasons.

const ANNOUNCED: &str =
    "xvip announces a VIP in five rounds by a schedule of its own, and again when another host claims it";
const PROCESS: &str = "xvip runs under systemd (config/xvip.service), and its adverts in a thread of their own";
const MAIL: &str = "xvip sends no mail; alerts come from its metrics";
const SCRIPTS: &str = "commands of [[vrrp.track]] and notify run as the agent's user";
const SNMP: &str = "xvip has metrics for Prometheus";
const IPVS: &str = "IPVS is not used, the datapath is xvip's own";
const NETLINK: &str = "xvip finds the sizes of its buffers by itself";
const VMAC: &str = "VIPs are at the interface, with its own hardware address";
const ROUTES: &str = "xvip brings addresses alone; make routes and rules where the host's network is configured";
const NOTIFY: &str = "programs of keepalived get other arguments; xvip runs notify = [PROGRAM, ARGUMENT...] at every transition, with XVIP_STATE and others in its environment";
const CHECKED: &str = "xvip checks it always";
const LOWER: &str = "xvip answers lower priorities as RFC 9568 says";
const TIMES: &str = "xvip follows the times of RFC 9568";
const NAME: &str = "it only describes";
const TRACKED: &str = "[[vrrp.track]] knows interfaces, files that are there or not, and commands";

/// Reasons, and the keywords that they are for.
type Table = &'static [(&'static str, &'static [&'static str])];

const GLOBAL: Table = &[
    (
        MAIL,
        &[
            "notification_email",
            "notification_email_from",
            "smtp_server",
            "smtp_helo_name",
            "smtp_connect_timeout",
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_alert_checker",
            "no_email_faults",
            "no_checker_emails",
        ],
    ),
    ("node.name is this node's name, by default that of the host", &["router_id"]),
    (
        ANNOUNCED,
        &[
            "vrrp_garp_master_delay",
            "vrrp_garp_master_repeat",
            "vrrp_garp_lower_prio_delay",
            "vrrp_garp_lower_prio_repeat",
            "vrrp_garp_master_refresh",
            "vrrp_garp_master_refresh_repeat",
            "vrrp_garp_interval",
            "vrrp_gna_interval",
            "vrrp_min_garp",
            "vrrp_garp_extra_if",
            "vrrp_vmac_garp_intvl",
        ],
    ),
    (LOWER, &["vrrp_lower_prio_no_advert", "vrrp_higher_prio_send_advert", "vrrp_strict"]),
    (CHECKED, &["vrrp_skip_check_adv_addr", "vrrp_check_unicast_src", "log_unknown_vrids"]),
    (
        "adverts by multicast go to 224.0.0.18 and ff02::12, and to routers of keepalived only if theirs do",
        &["vrrp_mcast_group4", "vrrp_mcast_group6"],
    ),
    (TIMES, &["vrrp_startup_delay", "vrrp_down_timer_adverts"]),
    (
        NOTIFY,
        &[
            "notify_fifo",
            "notify_fifo_script",
            "vrrp_notify_fifo",
            "vrrp_notify_fifo_script",
            "lvs_notify_fifo",
            "lvs_notify_fifo_script",
            "startup_script",
            "startup_script_timeout",
            "shutdown_script",
            "shutdown_script_timeout",
            "fifo_write_vrrp_states_on_reload",
            "vrrp_notify_priority_changes",
        ],
    ),
    (SCRIPTS, &["script_user", "enable_script_security", "max_auto_priority", "min_auto_priority_delay"]),
    (
        PROCESS,
        &[
            "vrrp_priority",
            "vrrp_no_swap",
            "vrrp_rt_priority",
            "vrrp_cpu_affinity",
            "vrrp_rlimit_rtime",
            "vrrp_rlimit_rttime",
            "checker_priority",
            "checker_no_swap",
            "checker_rt_priority",
            "checker_cpu_affinity",
            "checker_rlimit_rtime",
            "checker_rlimit_rttime",
            "bfd_priority",
            "bfd_no_swap",
            "bfd_rt_priority",
            "bfd_cpu_affinity",
            "bfd_rlimit_rtime",
            "bfd_rlimit_rttime",
            "process_names",
            "process_name",
            "vrrp_process_name",
            "lvs_process_name",
            "checker_process_name",
            "bfd_process_name",
            "child_wait_time",
            "umask",
            "use_pid_dir",
            "data_use_instance",
            "reload_repeat",
            "reload_time_file",
            "reload_file",
            "reload_check_config",
            "config_save_dir",
            "tmp_config_directory",
            "json_version",
            "disable_local_igmp",
        ],
    ),
    (
        SNMP,
        &[
            "enable_traps",
            "enable_snmp_vrrp",
            "enable_snmp_checker",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_snmp_keepalived",
            "snmp_socket",
            "enable_dbus",
            "dbus_service_name",
            "dbus_no_interface_name",
        ],
    ),
    (
        IPVS,
        &[
            "lvs_sync_daemon",
            "lvs_timeouts",
            "lvs_flush",
            "lvs_flush_on_stop",
            "lvs_flush_onstop",
            "checker_log_all_failures",
            "rs_init_notifies",
        ],
    ),
    (
        NETLINK,
        &[
            "vrrp_netlink_cmd_rcv_bufs",
            "vrrp_netlink_cmd_rcv_bufs_force",
            "vrrp_netlink_monitor_rcv_bufs",
            "vrrp_netlink_monitor_rcv_bufs_force",
            "lvs_netlink_cmd_rcv_bufs",
            "lvs_netlink_cmd_rcv_bufs_force",
            "lvs_netlink_monitor_rcv_bufs",
            "lvs_netlink_monitor_rcv_bufs_force",
            "process_monitor_rcv_bufs",
            "process_monitor_rcv_bufs_force",
            "vrrp_rx_bufs_policy",
            "vrrp_rx_bufs_multiplier",
        ],
    ),
    (
        "what the VIPs may be used for is said by [[service]]",
        &[
            "vrrp_iptables",
            "vrrp_ipsets",
            "nftables",
            "nftables_priority",
            "nftables_counters",
            "nftables_ifindex",
            "nftables_ipvs",
            "nftables_ipvs_priority",
            "nftables_ipvs_start_fwmark",
        ],
    ),
    ("xvip looks for interfaces as they come and go", &["dynamic_interfaces", "allow_if_changes"]),
    (VMAC, &["vmac_prefix", "vmac_addr_prefix", "vrrp_owner_ignore_adverts"]),
    (
        "it is no setting of what is carried over",
        &["random_seed", "include_check", "state_dump_file", "stats_dump_file", "json_dump_file"],
    ),
];

const INSTANCE: Table = &[
    (
        ANNOUNCED,
        &[
            "garp_master_delay",
            "garp_master_repeat",
            "garp_lower_prio_delay",
            "garp_lower_prio_repeat",
            "garp_master_refresh",
            "garp_master_refresh_repeat",
            "garp_interval",
            "gna_interval",
            "garp_extra_if",
            "vmac_garp_intvl",
        ],
    ),
    (LOWER, &["lower_prio_no_advert", "higher_prio_send_advert", "strict_mode"]),
    (CHECKED, &["skip_check_adv_addr", "check_unicast_src"]),
    ("the interface is always watched: without it no VIP is held", &["dont_track_primary", "linkbeat_use_polling"]),
    (TIMES, &["down_timer_adverts", "timer_expired_backup"]),
    (
        NOTIFY,
        &[
            "notify",
            "notify_master",
            "notify_backup",
            "notify_fault",
            "notify_stop",
            "notify_deleted",
            "notify_master_rx_lower_pri",
            "notify_priority_changes",
        ],
    ),
    (MAIL, &["smtp_alert"]),
    (VMAC, &["use_vmac", "vmac_xmit_base", "use_vmac_addr", "use_ipvlan", "owner_ignore_adverts"]),
    (ROUTES, &["virtual_routes", "virtual_rules"]),
    (IPVS, &["lvs_sync_daemon", "lvs_sync_daemon_interface"]),
    ("adverts have TTL 255, as RFC 9568 wants", &["unicast_ttl", "ttl"]),
    (
        "adverts by multicast go to 224.0.0.18 and ff02::12, and to routers of keepalived only if theirs do",
        &["mcast_dst_ip"],
    ),
    ("the VIPs may be used as their services say", &["accept", "no_accept"]),
    ("a VIP is a further address of the interface", &["promote_secondaries", "native_ipv6", "vrf"]),
    ("adverts have the checksum that keepalived's unicast has today", &["old_unicast_checksum"]),
    ("adverts of version 3 have the checksum of RFC 9568, which keepalived's have without it", &["v3_checksum_as_v2"]),
    (NETLINK, &["kernel_rx_buf_size"]),
    (TRACKED, &["track_file", "track_bfd", "track_src_ip"]),
    (NAME, &["debug", "snmp_name"]),
    ("a router without peers is as good as one with", &["unicast_fault_no_peer"]),
];

const GROUP: Table = &[
    (NOTIFY, &["notify", "notify_master", "notify_backup", "notify_fault", "notify_stop", "notify_priority_changes"]),
    (MAIL, &["smtp_alert"]),
    (TRACKED, &["track_file", "track_bfd", "track_process"]),
    (
        "what each member tracks counts for the group, weights included",
        &["global_tracking", "sync_group_tracking_weight"],
    ),
];

fn reason(table: Table, keyword: &str) -> Option<&'static str> {
    table.iter().find(|(_, words)| words.contains(&keyword)).map(|(reason, _)| *reason)
}

/// Why a keyword of `global_defs` is not carried over; `None`: it is carried over, or unknown.
pub(super) fn global(keyword: &str) -> Option<&'static str> {
    reason(GLOBAL, keyword)
}

/// The known keywords of `global_defs`.
pub(super) fn globals() -> impl Iterator<Item = &'static str> {
    let read = ["vrrp_version", "default_interface"];
    read.into_iter().chain(GLOBAL.iter().flat_map(|(_, words)| words.iter().copied()))
}

/// Why a keyword of a `vrrp_instance` is not carried over; `None`: it is carried over, or unknown.
pub(super) fn instance(keyword: &str) -> Option<&'static str> {
    reason(INSTANCE, keyword)
}

/// The known keywords of a `vrrp_instance`.
pub(super) fn instances() -> impl Iterator<Item = &'static str> {
    let read = [
        "state",
        "interface",
        "virtual_router_id",
        "priority",
        "advert_int",
        "version",
        "authentication",
        "nopreempt",
        "preempt",
        "preempt_delay",
        "mcast_src_ip",
        "unicast_src_ip",
        "unicast_peer",
        "virtual_ipaddress",
        "virtual_ipaddress_excluded",
        "no_virtual_ipaddress",
        "track_script",
        "track_interface",
        "track_process",
    ];
    read.into_iter().chain(INSTANCE.iter().flat_map(|(_, words)| words.iter().copied()))
}

/// Why a keyword of a `vrrp_sync_group` is not carried over; `None`: it is carried over, or unknown.
pub(super) fn group(keyword: &str) -> Option<&'static str> {
    reason(GROUP, keyword)
}

/// The known keywords of a `vrrp_sync_group`.
pub(super) fn groups() -> impl Iterator<Item = &'static str> {
    ["group", "track_script", "track_interface"]
        .into_iter()
        .chain(GROUP.iter().flat_map(|(_, words)| words.iter().copied()))
}

/// Why a statement outside of all blocks is not carried over; `None`: it is carried over, or unknown.
pub(super) fn top(keyword: &str) -> Option<&'static str> {
    Some(match keyword {
        "virtual_server_group" | "real_server" => "it is of a balancer by IPVS",
        "vrrp_track_process" | "track_process" | "vrrp_track_file" | "track_file" | "track_group" => TRACKED,
        "static_ipaddress" | "static_routes" | "static_rules" => ROUTES,
        "garp_group" => ANNOUNCED,
        "bfd_instance" => "xvip speaks no BFD",
        "linkbeat_interfaces" | "linkbeat_use_polling" | "interface_up_down_delays" => {
            "interfaces are watched as the kernel reports them"
        }
        "net_namespace" | "net_namespace_ipvs" | "namespace_with_ipsets" | "instance" | "use_pid_dir" => {
            "start xvip in that namespace, and give it a node.name and an admin.socket of its own"
        }
        _ => return None,
    })
}

/// What stands outside of all blocks.
pub(super) const TOP: [&str; 20] = [
    "global_defs",
    "vrrp_script",
    "vrrp_instance",
    "vrrp_sync_group",
    "virtual_server",
    "virtual_server_group",
    "vrrp_track_process",
    "track_process",
    "vrrp_track_file",
    "track_file",
    "track_group",
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "garp_group",
    "bfd_instance",
    "linkbeat_interfaces",
    "interface_up_down_delays",
    "net_namespace",
    "instance",
];
