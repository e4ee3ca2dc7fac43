//! The keywords of haproxy.cfg that are known but have no counterpart, with the reasons.

/// What begins a section.
pub(super) const SECTIONS: [&str; 19] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

const LOGS: &str =
    "xvip logs its events to standard error, where systemd's journal takes them; it keeps no log of connections";
const PROCESS: &str = "xvip runs in the foreground under systemd (config/xvip.service), its datapath in the kernel";
const TUNING: &str = "it tunes haproxy's process, and packets pass no process here";
const TLS: &str = "xvip hands TLS on as it is and ends none";
const HTTP: &str = "xvip forwards TCP and looks at no HTTP";
const RULES: &str =
    "xvip decides by addresses and ports alone; who may connect is said by allow and [service.source_limit]";
const STICK: &str = "there are no tables to stick by; balance = \"source\" keeps a client at its backend";
const QUEUE: &str = "there are no queues: what is beyond max_connections goes to another backend or is refused";
const SOCKET: &str = "connections pass in the kernel, and their options are those of client and backend";
const RETRY: &str = "a connection that a backend refuses or leaves unanswered goes on to another one by itself";
const CHECKS: &str = "xvip's checks have no such setting";
const NAME: &str = "it only describes";
const ELSEWHERE: &str = "this section has no counterpart";

/// Reasons, and the keywords that they are for.
type Table = &'static [(&'static str, &'static [&'static str])];

const GLOBAL: Table = &[
    (LOGS, &["log", "log-tag", "log-send-hostname", "unix-bind"]),
    (
        "xvip has limits of services and backends (max_connections), and node.max_flows for all connections",
        &[
            "maxconn",
            "maxconnrate",
            "maxsessrate",
            "maxsslconn",
            "maxsslrate",
            "maxpipes",
            "maxzlibmem",
            "maxcompcpuusage",
            "maxcomprate",
        ],
    ),
    (
        PROCESS,
        &[
            "user",
            "group",
            "uid",
            "gid",
            "chroot",
            "daemon",
            "debug",
            "pidfile",
            "nbproc",
            "master-worker",
            "mworker-max-reloads",
            "mworker-prestate",
            "quiet",
            "node",
            "description",
            "localpeer",
            "server-state-base",
            "server-state-file",
            "hard-stop-after",
            "close-spread-time",
            "grace",
            "zero-warning",
            "strict-limits",
            "set-dumpable",
            "ulimit-n",
            "fd-hard-limit",
            "setcap",
            "insecure-fork-wanted",
            "insecure-setuid-wanted",
            "numa-cpu-mapping",
            "cpu-map",
            "cpu-set",
            "cpu-policy",
            "nbthread",
            "thread-group",
            "thread-groups",
            "thread-hard-limit",
            "default-path",
            "limited-quic",
            "no-quic",
            "anonkey",
            "force-cfg-parser-pause",
            "warn-blocked-traffic-after",
            "cluster-secret",
            "expose-experimental-directives",
            "expose-deprecated-directives",
            "no-memory-trimming",
            "noepoll",
            "nokqueue",
            "noevports",
            "nopoll",
            "nosplice",
            "nogetaddrinfo",
            "noreuseport",
            "busy-polling",
            "no",
            "dns-accept-family",
            "prealloc-fd",
            "shm-stats-file",
            "shm-stats-file-max-objects",
            "harden.reject-privileged-ports.tcp",
            "harden.reject-privileged-ports.quic",
            "stress-level",
        ],
    ),
    ("xvip steers by its own socket (admin.socket), see `xvip status` and `xvip vrrp`", &["stats"]),
    (TUNING, &["spread-checks", "max-spread-checks", "profiling.tasks", "profiling.memory"]),
    (TLS, &["ca-base", "crt-base", "key-base", "issuers-chain-path", "acme.scheduler"]),
    ("a check of xvip is of type tcp, tls, http or https", &["external-check"]),
    (
        HTTP,
        &[
            "h1-accept-payload-with-any-method",
            "h1-case-adjust",
            "h1-case-adjust-file",
            "h2-workaround-bogus-websocket-clients",
            "http-err-codes",
            "http-fail-codes",
        ],
    ),
    (
        "xvip runs no code of others",
        &[
            "lua-load",
            "lua-load-per-thread",
            "lua-prepend-path",
            "51degrees-data-file",
            "51degrees-property-name-list",
            "51degrees-property-separator",
            "51degrees-cache-size",
            "51degrees-use-performance-graph",
            "51degrees-use-predictive-graph",
            "deviceatlas-json-file",
            "deviceatlas-log-level",
            "deviceatlas-separator",
            "deviceatlas-properties-cookie",
            "wurfl-data-file",
            "wurfl-information-list",
            "wurfl-information-list-separator",
            "wurfl-patch-file",
            "wurfl-cache-size",
            "wurfl-engine-mode",
        ],
    ),
    (
        "variables are put in where the file uses them",
        &["setenv", "presetenv", "unsetenv", "resetenv", "set-var", "set-var-fmt"],
    ),
    ("it says how haproxy opens connections of its own", &["pp2-never-send-local"]),
];

const PROXY: Table = &[
    (
        LOGS,
        &[
            "log",
            "log-format",
            "log-format-sd",
            "log-steps",
            "log-tag",
            "error-log-format",
            "unique-id-format",
            "unique-id-header",
            "capture",
        ],
    ),
    (
        HTTP,
        &[
            "compression",
            "cookie",
            "dynamic-cookie-key",
            "errorfile",
            "errorfiles",
            "errorloc",
            "errorloc302",
            "errorloc303",
            "force-persist",
            "ignore-persist",
            "http-after-response",
            "http-error",
            "http-request",
            "http-response",
            "http-reuse",
            "http-send-name-header",
            "use-fcgi-app",
            "monitor",
            "monitor-net",
            "redirect",
            "retry-on",
            "max-keep-alive-queue",
            "max-session-srv-conns",
            "reqadd",
            "reqallow",
            "reqdel",
            "reqdeny",
            "reqiallow",
            "reqidel",
            "reqideny",
            "reqipass",
            "reqirep",
            "reqitarpit",
            "reqpass",
            "reqrep",
            "reqtarpit",
            "rspadd",
            "rspdel",
            "rspdeny",
            "rspidel",
            "rspideny",
            "rspirep",
            "rsprep",
            "appsession",
            "block",
            "declare",
            "filter",
            "filter-sequence",
            "persist",
            "hash-preserve-affinity",
        ],
    ),
    (RULES, &["acl", "tcp-request", "tcp-response", "use-server", "rate-limit", "quic-initial"]),
    (STICK, &["stick", "stick-table"]),
    (QUEUE, &["fullconn", "backlog"]),
    (RETRY, &["retries"]),
    (
        SOCKET,
        &[
            "clitcpka-cnt",
            "clitcpka-idle",
            "clitcpka-intvl",
            "srvtcpka-cnt",
            "srvtcpka-idle",
            "srvtcpka-intvl",
            "transparent",
        ],
    ),
    ("source addresses towards backends are the VIP and node.source_addresses", &["source", "usesrc"]),
    (
        CHECKS,
        &[
            "external-check",
            "email-alert",
            "load-server-state-from-file",
            "server-state-file-name",
            "hash-balance-factor",
        ],
    ),
    (TUNING, &["bind-process", "grace"]),
    (NAME, &["description", "id", "guid"]),
    ("backends are written down one by one", &["server-template"]),
    ("services come and go with the file and a reload", &["enabled", "publish"]),
];

const OPTIONS: Table = &[
    (
        LOGS,
        &[
            "tcplog",
            "httplog",
            "httpslog",
            "dontlognull",
            "dontlog-normal",
            "logasap",
            "log-separate-errors",
            "log-health-checks",
            "socket-stats",
            "contstats",
        ],
    ),
    (
        HTTP,
        &[
            "abortonclose",
            "accept-invalid-http-request",
            "accept-invalid-http-response",
            "accept-unsafe-violations-in-http-request",
            "accept-unsafe-violations-in-http-response",
            "assume-rfc6587-ntf",
            "checkcache",
            "disable-h2-upgrade",
            "forceclose",
            "forwardfor",
            "forwarded",
            "h1-case-adjust-bogus-client",
            "h1-case-adjust-bogus-server",
            "http-buffer-request",
            "http-drop-request-trailers",
            "http-drop-response-trailers",
            "http-ignore-probes",
            "http-keep-alive",
            "http-no-delay",
            "http-pretend-keepalive",
            "http-restrict-req-hdr-names",
            "http-server-close",
            "http-tunnel",
            "http-use-htx",
            "http-use-proxy-header",
            "http_proxy",
            "httpclose",
            "idle-close-on-response",
            "originalto",
            "prefer-last-server",
            "use-small-buffers",
        ],
    ),
    (
        SOCKET,
        &[
            "clitcpka",
            "srvtcpka",
            "tcpka",
            "nolinger",
            "splice-auto",
            "splice-request",
            "splice-response",
            "tcp-smart-accept",
            "tcp-smart-connect",
            "independant-streams",
            "independent-streams",
            "transparent",
        ],
    ),
    (RETRY, &["redispatch"]),
    (STICK, &["persist"]),
    ("there are no spare backends", &["allbackups"]),
];

fn reason(table: Table, keyword: &str) -> Option<&'static str> {
    table.iter().find(|(_, words)| words.contains(&keyword)).map(|(reason, _)| *reason)
}

/// Why a keyword of `global` is not carried over; `None`: it is unknown.
pub(super) fn global(keyword: &str) -> Option<&'static str> {
    let by_prefix = [("tune.", TUNING), ("ssl-", TLS), ("httpclient.", HTTP), ("ocsp-update.", TLS)];
    reason(GLOBAL, keyword)
        .or_else(|| by_prefix.iter().find(|(prefix, _)| keyword.starts_with(prefix)).map(|(_, why)| *why))
}

/// Why a keyword of defaults, frontend, backend or listen is not carried over; `None`: it is carried over, or unknown.
pub(super) fn proxy(keyword: &str) -> Option<&'static str> {
    reason(PROXY, keyword)
}

/// Why an `option` is not carried over; `None`: it is carried over, or unknown.
pub(super) fn option(name: &str) -> Option<&'static str> {
    reason(OPTIONS, name)
}

/// Why a section is not carried over, of those that are neither global nor proxies.
pub(super) fn section(kind: &str) -> &'static str {
    match kind {
        "resolvers" => "backends are addresses; names are not asked for",
        "peers" => "balancers tell each other of their connections by [sync]",
        "mailers" => "xvip sends no mail; alerts come from its metrics",
        _ => ELSEWHERE,
    }
}

/// The known keywords of `global`.
pub(super) fn globals() -> impl Iterator<Item = &'static str> {
    GLOBAL.iter().flat_map(|(_, words)| words.iter().copied())
}

/// The known keywords of proxies, those that are read included.
pub(super) fn proxies() -> impl Iterator<Item = &'static str> {
    const READ: [&str; 22] = [
        "mode",
        "balance",
        "hash-type",
        "timeout",
        "clitimeout",
        "contimeout",
        "srvtimeout",
        "maxconn",
        "default-server",
        "option",
        "http-check",
        "tcp-check",
        "stats",
        "bind",
        "server",
        "default_backend",
        "use_backend",
        "disabled",
        "monitor-uri",
        "no",
        "default",
        "dispatch",
    ];
    READ.into_iter().chain(PROXY.iter().flat_map(|(_, words)| words.iter().copied()))
}

/// The known options, those that are read included.
pub(super) fn options() -> impl Iterator<Item = &'static str> {
    const READ: [&str; 10] = [
        "httpchk",
        "ssl-hello-chk",
        "tcp-check",
        "ldap-check",
        "mysql-check",
        "pgsql-check",
        "redis-check",
        "smtpchk",
        "spop-check",
        "external-check",
    ];
    READ.into_iter().chain(OPTIONS.iter().flat_map(|(_, words)| words.iter().copied()))
}
