//! The Debian package on a copy of this machine: installed, configured, upgraded under load, removed and purged. Needs root, and
//! the package by `cargo xtask package`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{LIMIT, OFTEN, breaks, end, served_more, settle, unstarted, wait, watches_open};
use xvip_tests::chroot::Chroot;
use xvip_tests::netns::Netns;
use xvip_tests::run::Run;
use xvip_tests::topology::has_vip;

/// What package managers keep about themselves, and the stand-in for systemd.
const KNOWN: [&str; 5] = ["/var/lib/dpkg", "/var/log", "/var/cache", "/usr/bin/systemctl", "/run/systemctl.log"];

/// The package to test: the file named by the variable XVIP_PACKAGE, else the one in target/debian.
fn package() -> PathBuf {
    if let Some(named) = std::env::var_os("XVIP_PACKAGE") {
        return named.into();
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debian");
    let files = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).max();
    newest.unwrap_or_else(|| panic!("there is no package in {}: run `cargo xtask package`", directory.display()))
}

/// The same package of a later version.
fn later(package: &Path, version: &str, directory: &Path) -> PathBuf {
    let content = directory.join(format!("package-{version}"));
    let done = Command::new("dpkg-deb").arg("-R").arg(package).arg(&content).status().unwrap();
    assert!(done.success());
    let control = content.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("Version:") {
        true => format!("Version: {version}\n"),
        false => format!("{line}\n"),
    });
    fs::write(&control, lines.collect::<String>()).unwrap();
    let later = directory.join(format!("xvip-{version}.deb"));
    // Not compressed: it is read once.
    let done = Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(&content).arg(&later).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::remove_dir_all(&content).unwrap();
    later
}

#[track_caller]
fn sh(chroot: &Chroot, netns: &Netns, line: &str) -> String {
    let (status, text) = chroot.sh(netns, line).unwrap();
    println!("# {line}\n{}", text.trim_end());
    assert!(status.success(), "{line}: {text}");
    text
}

fn pid(chroot: &Chroot) -> Option<u32> {
    fs::read_to_string(chroot.path("/run/xvip.pid")).ok()?.trim().parse().ok()
}

/// A copy of this machine with a stand-in for systemd.
fn machine(run: &Arc<Run>) -> Chroot {
    let chroot = Chroot::create(run).unwrap();
    let systemctl = chroot.path("/usr/bin/systemctl");
    fs::copy(&systemctl, chroot.path("/usr/bin/systemctl.real")).unwrap();
    fs::write(&systemctl, include_str!("../src/systemctl.sh")).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(chroot.path("/usr/sbin/policy-rc.d"));
    // Nobody looks for manual pages by their words there.
    let _ = fs::remove_file(chroot.path("/var/lib/man-db/auto-update"));
    chroot
}

#[test]
fn installed_upgraded_removed_and_purged() {
    let mut topology = unstarted(2, &[OFTEN]);
    let (run, netns) = (topology.run.clone(), topology.balancers[0].agent.netns().clone());
    let first = run.dir().join("xvip-first.deb");
    fs::copy(package(), &first).unwrap();
    let second = later(&first, "99.0-1", run.dir());
    let third = later(&first, "99.0-2", run.dir());
    let chroot = machine(&run);
    let before = chroot.changes(&KNOWN).unwrap();

    // Installed: nothing happens before it is configured.
    let text = sh(&chroot, &netns, &format!("dpkg -i {}", first.display()));
    assert!(text.contains("write /etc/xvip/xvip.toml"), "{text}");
    assert_eq!(pid(&chroot), None, "it was started with nothing to do");
    let files = sh(&chroot, &netns, "dpkg -L xvip; xvip --version");
    for file in [
        "/usr/bin/xvip",
        "/usr/lib/systemd/system/xvip.service",
        "/usr/share/man/man1/xvip-run.1.gz",
        "/usr/share/bash-completion/completions/xvip",
        "/usr/share/zsh/vendor-completions/_xvip",
        "/usr/share/fish/vendor_completions.d/xvip.fish",
        "/etc/logrotate.d/xvip",
        "/usr/share/doc/xvip/README.Debian",
        "/usr/share/doc/xvip/examples/xvip.toml",
        "/usr/share/doc/xvip/examples/prometheus/alerts.yml",
        "/usr/share/doc/xvip/examples/grafana/xvip.json",
        "/usr/share/doc/xvip/examples/kubernetes/xvip.yaml",
        "/usr/share/doc/xvip/examples/ansible/site.yml",
        "/usr/share/doc/xvip/copyright",
        "/usr/share/doc/xvip/third-party-notices.txt",
        "/usr/share/doc/xvip/rust-library-notices.html",
    ] {
        assert!(files.lines().any(|line| line == file), "no {file}");
    }
    // What people and commands write is none of the package's files: dpkg would ask about it.
    assert_eq!(fs::read_dir(chroot.path("/etc/xvip")).unwrap().count(), 0);
    let conffiles = sh(&chroot, &netns, "dpkg-query --show --showformat='${Conffiles}' xvip");
    assert!(
        conffiles.split_whitespace().next() == Some("/etc/logrotate.d/xvip") && conffiles.lines().count() <= 2,
        "{conffiles}"
    );
    let unit = "/usr/lib/systemd/system/xvip.service";
    let text = sh(&chroot, &netns, &format!("systemd-analyze verify {unit}"));
    assert_eq!(text, "", "the unit has faults");
    // 3.5 of 10, where 10 is no limit at all.
    sh(
        &chroot,
        &netns,
        &format!(
            "systemd-analyze security --no-pager --offline=true --threshold=35 {unit} >/tmp/seen; s=$?; tail -n 1 /tmp/seen; exit $s"
        ),
    );
    let wanted = chroot.path("/etc/systemd/system/multi-user.target.wants/xvip.service");
    assert!(fs::symlink_metadata(&wanted).is_ok(), "the unit is not enabled");

    // A file with faults ends it with the one status at which systemd does not start it again.
    let prevented = format!("sed -n s/^RestartPreventExitStatus=//p {unit}");
    let ended =
        "printf '[node]\\nname = 1\\n' >/tmp/bad; xvip run --config /tmp/bad >/dev/null 2>&1; echo $?; rm /tmp/bad";
    assert_eq!(sh(&chroot, &netns, ended), sh(&chroot, &netns, &prevented));

    // Configured: it serves, beside a balancer that is not of the package.
    let config = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let config = format!("{config}\n[flow_log]\npath = \"/var/log/xvip/flows.log\"\n");
    fs::write(chroot.path("/etc/xvip/xvip.toml"), &config).unwrap();
    sh(&chroot, &netns, "systemctl start xvip");
    wait("the packaged agent to hold the VIP", || has_vip(&netns));
    topology.balancers[1].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let load = topology.load(Duration::from_millis(15), 9).unwrap();
    watches_open(&load);
    served_more(&load, 50);

    // Upgraded under load: nobody notices.
    let running = pid(&chroot);
    sh(&chroot, &netns, &format!("dpkg -i {}", second.display()));
    assert_ne!(pid(&chroot), running, "the new version was not started");
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    served_more(&load, 50);
    assert_eq!(topology.owners(), [0]);
    assert_eq!(fs::read_to_string(chroot.path("/etc/xvip/xvip.toml")).unwrap(), config);

    // Its log is rotated while it is written.
    let lines = |name: &str| fs::read_to_string(chroot.path(&format!("/var/log/xvip/{name}"))).map(|text| text.len());
    wait("the log of flows", || lines("flows.log").is_ok_and(|length| length > 0));
    sh(&chroot, &netns, "/usr/sbin/logrotate --force --state /tmp/rotated /etc/logrotate.d/xvip");
    assert!(lines("flows.log.1").is_ok_and(|length| length > 0));
    wait("a new log of flows", || lines("flows.log").is_ok_and(|length| length > 0));

    // A version that refuses the file leaves the old agent alone.
    let running = pid(&chroot);
    let broken = format!("{config}\nunknown = 1\n");
    fs::write(chroot.path("/etc/xvip/xvip.toml"), broken).unwrap();
    let text = sh(&chroot, &netns, &format!("dpkg -i {}", third.display()));
    assert!(text.contains("not restarted") && text.contains("unknown"), "{text}");
    assert_eq!(pid(&chroot), running);
    fs::write(chroot.path("/etc/xvip/xvip.toml"), &config).unwrap();
    served_more(&load, 50);
    let sum = load.summary(Duration::ZERO, settle(&load));
    println!("{} attempts, failed: {}, longest pause {:?}", sum.attempts, sum.failures_in_words(), sum.outage);
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");

    // Removed: the other one takes over, and the host is as it was but for the configuration.
    sh(&chroot, &netns, "dpkg -r xvip");
    wait("the VIP to move", || topology.owners() == [1]);
    served_more(&load, 50);
    assert!(chroot.path("/etc/xvip/xvip.toml").exists());
    assert_eq!(fs::read_dir(chroot.path("/sys/fs/bpf/xvip")).map_or(0, Iterator::count), 0, "pins are left");

    // Purged: nothing is left, also of what an agent would have left that was killed.
    fs::create_dir_all(chroot.path("/sys/fs/bpf/xvip/gone")).unwrap();
    fs::create_dir_all(chroot.path("/run/xvip")).unwrap();
    fs::write(chroot.path("/etc/xvip/sync.key"), "secret").unwrap();
    sh(&chroot, &netns, "dpkg -P xvip");
    assert!(!chroot.path("/var/log/xvip").exists(), "logs are left");
    // Of the stand-in, not of the package.
    for file in ["/run/xvip.pid", "/run/xvip.log"] {
        fs::remove_file(chroot.path(file)).unwrap();
    }
    let after = chroot.changes(&KNOWN).unwrap();
    // Directories that the copy has because something was put into them and taken out again.
    let machines = |path: &&String| Path::new(path.as_str()).is_dir();
    // What the tests keep for themselves is seen there as well, and systemd-analyze notes when it ran.
    let others = [run.dir().display().to_string(), "/run/systemd/".to_owned()];
    let of_others = |path: &&String| others.iter().any(|other| path.starts_with(other));
    let left: BTreeSet<_> = after.difference(&before).filter(|path| !machines(path) && !of_others(path)).collect();
    assert_eq!(left, BTreeSet::new());

    assert!(topology.balancers[1].agent.stop(LIMIT).unwrap().unwrap().success());
    drop((load, chroot, netns, run));
    end(topology);
}

/// A package of another name that cannot be on a machine beside any xvip.
fn enemy(directory: &Path) -> PathBuf {
    let content = directory.join("enemy");
    fs::create_dir_all(content.join("DEBIAN")).unwrap();
    let control = "Package: enemy\nVersion: 1\nArchitecture: all\nMaintainer: We <we@example.com>\nBreaks: xvip\nDescription: it\n";
    fs::write(content.join("DEBIAN/control"), control).unwrap();
    let package = directory.join("enemy.deb");
    let done = Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(&content).arg(&package).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    package
}

#[test]
fn what_ran_runs_again_and_what_was_stopped_does_not() {
    let topology = unstarted(1, &[OFTEN]);
    let (run, netns) = (topology.run.clone(), topology.balancers[0].agent.netns().clone());
    let package = package();
    let own = run.dir().join("xvip.deb");
    fs::copy(package, &own).unwrap();
    let install = format!("dpkg -i {} </dev/null", own.display());
    let chroot = machine(&run);
    let runs = || pid(&chroot).is_some_and(|pid| Path::new(&format!("/proc/{pid}/exe")).exists());

    // The file is there first, as configuration management has it: nothing is asked, and it serves.
    let config = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    fs::create_dir(chroot.path("/etc/xvip")).unwrap();
    fs::set_permissions(chroot.path("/etc/xvip"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(chroot.path("/etc/xvip/xvip.toml"), &config).unwrap();
    sh(&chroot, &netns, &install);
    wait("the packaged agent to hold the VIP", || has_vip(&netns));
    assert_eq!(fs::read_to_string(chroot.path("/etc/xvip/xvip.toml")).unwrap(), config);
    let mode = fs::metadata(chroot.path("/etc/xvip")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750, "the administrator's own mode");

    // Removed while it runs, and installed again; what is in between is no stop by an administrator.
    sh(&chroot, &netns, "dpkg -r xvip");
    assert!(!runs() && !has_vip(&netns));
    sh(&chroot, &netns, &install);
    wait("it to hold the VIP again", || has_vip(&netns));

    // A removal that is given up half-way.
    let running = pid(&chroot);
    let script = |name: &str, words: &str| {
        let name = format!("DPKG_MAINTSCRIPT_PACKAGE=xvip /var/lib/dpkg/info/xvip.{name}");
        sh(&chroot, &netns, &format!("{name} {words}"));
    };
    script("prerm", "remove");
    assert!(!runs());
    script("postinst", "abort-remove");
    wait("it to hold the VIP after all", || has_vip(&netns));
    assert_ne!(pid(&chroot), running);
    // An upgrade that is given up has stopped nothing, and starts nothing anew.
    let running = pid(&chroot);
    script("prerm", "upgrade 99");
    script("postinst", "abort-upgrade 99");
    assert!(runs() && pid(&chroot) == running);

    // Another package has it deconfigured, about which dpkg complains: the agent serves on, and is continued when that is over.
    let enemy = enemy(run.dir());
    sh(&chroot, &netns, &format!("dpkg -i --auto-deconfigure {} </dev/null || true", enemy.display()));
    let state = sh(&chroot, &netns, "dpkg-query --show --showformat='${db:Status-Status}' xvip");
    assert_ne!(state, "installed");
    assert!(runs() && pid(&chroot) == running && has_vip(&netns));
    sh(&chroot, &netns, "dpkg -r enemy && dpkg --configure xvip");
    assert!(runs() && pid(&chroot) != running);
    wait("it to go on with the VIP", || has_vip(&netns));

    // Stopped by its administrator, it stays so, whatever happens to the package.
    sh(&chroot, &netns, "systemctl stop xvip");
    sh(&chroot, &netns, &format!("{install} && dpkg -r xvip && {install}"));
    assert!(!runs() && !has_vip(&netns));
    sh(&chroot, &netns, "dpkg -P xvip");
    drop((chroot, netns, run));
    end(topology);
}

#[test]
fn the_datapath_does_not_say_where_it_was_built() {
    let object = xvip::bpf::OBJECT;
    assert!(!object.is_empty());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    for place in [workspace, home.unwrap()] {
        let found = object.windows(place.len()).any(|window| window == place.as_bytes());
        assert!(!found, "the object has {place} in it");
    }
}
