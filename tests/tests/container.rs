//! Image, static pod and Ansible example, as far as they can be tried where no container engine, no kubelet and no other host is:
//! the image's files laid out by its recipe and run with what the pod grants, the files read as their readers do. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{LIMIT, OFTEN, end, unstarted, wait};
use serde_json::Value as Json;
use serde_yaml_ng::Value;
use xvip_tests::agent;
use xvip_tests::process::Process;
use xvip_tests::run::Run;
use xvip_tests::scrape::get;
use xvip_tests::unit::Unit;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap()
}

fn pod() -> Value {
    serde_yaml_ng::from_str(&read("config/kubernetes/xvip.yaml")).unwrap()
}

/// Fields and their types in the API of Kubernetes 1.33, of the types that the manifest has parts of: `[T]` is a list, `{"*": T}` a
/// map with any keys.
const SCHEMA: &str = include_str!("../schema/pod.json");

/// What in `value` is not of this type: the kubelet leaves out fields that it does not know, and says nothing.
fn strange(
    value: &Json, of: &Json, types: &BTreeMap<String, BTreeMap<String, Json>>, at: &str, faults: &mut Vec<String>,
) {
    let is = match of {
        Json::String(name) => match name.as_str() {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64(),
            "integer or string" | "quantity" => value.is_i64() || value.is_string(),
            name => {
                let fields = types.get(name);
                match (value, fields) {
                    (Json::Object(values), Some(fields)) => {
                        for (key, value) in values {
                            let at = format!("{at}.{key}");
                            match fields.get(key) {
                                Some(of) => strange(value, of, types, &at, faults),
                                None => faults.push(format!("{at}: {name} has no such field")),
                            }
                        }
                        true
                    }
                    (_, Some(_)) => false,
                    (_, None) => panic!("{at}: tests/schema/pod.json does not have {name}: add its fields"),
                }
            }
        },
        Json::Array(of) => value.as_array().is_some_and(|values| {
            values
                .iter()
                .enumerate()
                .for_each(|(n, value)| strange(value, &of[0], types, &format!("{at}[{n}]"), faults));
            true
        }),
        of => value.as_object().is_some_and(|values| {
            values.iter().for_each(|(key, value)| strange(value, &of["*"], types, &format!("{at}.{key}"), faults));
            true
        }),
    };
    if !is {
        faults.push(format!("{at}: {value} is no {of}"));
    }
}

#[test]
fn the_pod_has_no_field_that_kubernetes_does_not_know() {
    let types = serde_json::from_str(SCHEMA).unwrap();
    let faults = |text: &str| {
        let mut faults = Vec::new();
        strange(&serde_yaml_ng::from_str(text).unwrap(), &"Pod".into(), &types, "pod", &mut faults);
        faults
    };
    let text = read("config/kubernetes/xvip.yaml");
    assert_eq!(faults(&text), Vec::<String>::new());
    // It sees what is misspelt, misplaced, or of another type.
    for (from, to, words) in [
        ("hostNetwork: true", "hostnetwork: true", "hostnetwork: PodSpec has no such field"),
        ("        privileged: false", "        hostPID: false", "hostPID: SecurityContext has no such field"),
        ("failureThreshold: 120", "failureThreshold: \"120\"", "failureThreshold: \"120\" is no \"integer\""),
    ] {
        let found = faults(&agent::adapt(&text, &[(from, to)]).unwrap());
        assert!(found.len() == 1 && found[0].ends_with(words), "{found:?}");
    }
}

/// Capabilities that the pod's container is given, as the kernel names them.
fn granted(pod: &Value) -> Vec<String> {
    let capabilities = &pod["spec"]["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"][0], "ALL");
    let added = capabilities["add"].as_sequence().unwrap();
    added.iter().map(|name| format!("CAP_{}", name.as_str().unwrap())).collect()
}

/// Directories of the host below /run and /var that the pod has.
fn mounted(pod: &Value) -> Vec<String> {
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_sequence().unwrap();
    let paths = mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap().to_owned());
    paths.filter(|path| path.starts_with("/run/") || path.starts_with("/var/")).collect()
}

/// What systemd makes for the unit.
fn unit_directories(unit: &Unit) -> Vec<String> {
    let of = [("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib"), ("LogsDirectory", "/var/log")];
    of.iter().flat_map(|(key, above)| unit.words(key).map(move |name| format!("{above}/{name}"))).collect()
}

#[test]
fn the_pod_asks_for_what_the_agent_needs() {
    let pod = pod();
    let unit = Unit::read(&shipped("config/xvip.service")).unwrap();
    assert_eq!(granted(&pod), unit.words("CapabilityBoundingSet").collect::<Vec<_>>());
    let spec = &pod["spec"];
    assert_eq!((&pod["apiVersion"], &pod["kind"]), (&"v1".into(), &"Pod".into()));
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["priorityClassName"], "system-node-critical");
    let container = &spec["containers"][0];
    let rights = &container["securityContext"];
    assert_eq!(rights["privileged"], false);
    // The default profile of AppArmor, and the default type of SELinux, keep a container from pinning anything.
    assert_eq!(rights["appArmorProfile"]["type"], "Unconfined");
    let annotation = format!("container.apparmor.security.beta.kubernetes.io/{}", container["name"].as_str().unwrap());
    assert_eq!(pod["metadata"]["annotations"][annotation.as_str()], "unconfined");
    assert_eq!(rights["seLinuxOptions"]["type"], "spc_t");
    // What the agent writes to: its root is read-only.
    let mounts = container["volumeMounts"].as_sequence().unwrap();
    for path in unit_directories(&unit).iter().map(String::as_str).chain(["/etc/xvip", "/sys/fs/bpf"]) {
        let mount = mounts.iter().find(|mount| mount["mountPath"] == path).unwrap_or_else(|| panic!("no {path}"));
        assert!(mount.get("readOnly").is_none(), "{path} cannot be written");
        let volume = spec["volumes"].as_sequence().unwrap().iter().find(|volume| volume["name"] == mount["name"]);
        assert_eq!(volume.unwrap()["hostPath"]["path"], path);
    }
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&path.into(), &9910.into()), "{probe}");
    }
    // Each mount is of a volume, and each volume is mounted.
    let names = |list: &Value| {
        let mut names: Vec<_> =
            list.as_sequence().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&container["volumeMounts"]), names(&spec["volumes"]));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container["image"], format!("xvip:{version}"));
}

/// Lays out what the image has: what its base brings (the libraries that the binary is linked with), and what is copied into it.
fn lay_out(root: &Path, xvip: &Path) -> Vec<String> {
    let ldd = Command::new("ldd").arg(xvip).output().unwrap();
    let libraries = String::from_utf8(ldd.stdout).unwrap();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(&library[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
    let recipe = read("config/container/Dockerfile");
    let copies = recipe.lines().filter_map(|line| line.strip_prefix("COPY "));
    for copy in copies {
        let words: Vec<_> = copy.split_whitespace().collect();
        let (to, from) = words.split_last().unwrap();
        for from in from {
            // What is released is the binary under test, and what `cargo xtask package` has made for its package.
            let source = match from.strip_prefix("target/dist/") {
                Some(binary) if binary.starts_with("xvip-") => xvip.to_owned(),
                Some(made) => shipped(&format!("target/package/{made}")),
                None => shipped(from),
            };
            let mut target = root.join(to.trim_start_matches('/'));
            if to.ends_with('/') {
                target.push(source.file_name().unwrap());
            }
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(&source, &target).unwrap_or_else(|err| panic!("{}: {err}", source.display()));
        }
    }
    let list = |word: &str| {
        let line = recipe.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        serde_json::from_str::<Vec<String>>(line).unwrap()
    };
    [list("ENTRYPOINT "), list("CMD ")].concat()
}

/// Makes the mounts of the pod and goes on with what it is told to run: `$1` is the root, `$2` the directory of the run, `$3`
/// the capabilities to keep, `$4` the directories for which the host has others.
const CONTAINER: &str = r#"
set -e
root=$1 run=$2 kept=$3
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/sys" "$root/etc/xvip" "$root$run"
for path in $4; do
    mkdir -p "$root$path"
    mount -t tmpfs none "$root$path"
done
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t bpf none "$root/sys/fs/bpf"
mount --bind "$run" "$root$run"
mount -o remount,bind,ro "$root"
shift 4
exec setpriv --bounding-set "-all,$kept" --inh-caps -all --no-new-privs chroot "$root" "$@"
"#;

#[test]
fn the_image_serves_with_what_the_pod_grants() {
    let mut topology = unstarted(1, &[OFTEN]);
    let run = topology.run.clone();
    let root = run.dir().join("image");
    let mut command_line = lay_out(&root, &agent::find().unwrap());
    fs::create_dir_all(root.join("etc/xvip")).unwrap();
    let config = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let config = format!("{config}\n[flow_log]\npath = \"/var/log/xvip/flows.log\"\n");
    fs::write(root.join("etc/xvip/xvip.toml"), config).unwrap();
    let version = Command::new("chroot").arg(&root).args(["/usr/bin/xvip", "--version"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("xvip {}\n", env!("CARGO_PKG_VERSION")));

    // chroot(8) is what is left of a container engine here, and takes the right to, which the agent gives up.
    let kept =
        granted(&pod()).iter().map(|name| name.replace("CAP_", "+")).collect::<Vec<_>>().join(",").to_lowercase();
    let netns = topology.balancers[0].agent.netns().clone();
    let mut command = netns.command("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-c", CONTAINER, "sh"]);
    command.arg(&root).arg(run.dir()).arg(format!("{kept},+sys_chroot")).arg(mounted(&pod()).join(" "));
    command.args(command_line.drain(..));
    let mut container = Process::spawn(&run, "container", command).unwrap();
    wait("readiness", || {
        assert!(container.is_running(), "{}", container.log_tail(20));
        get(&netns, ([127, 0, 0, 1], 9910).into(), "/readyz").is_ok()
    });
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}\n{}", container.log_tail(20)));
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    assert!(get(&netns, ([127, 0, 0, 1], 9910).into(), "/healthz").is_ok());
    container.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(container.wait(LIMIT).unwrap().success(), "{}", container.log_tail(20));
    drop((container, netns, run));
    end(topology);
}

/// Runs `ansible-playbook` with the inventory that ships; programs in the directory `bin` of the run come before others.
fn ansible(run: &Run, words: &[&str]) {
    let mut command = Command::new("ansible-playbook");
    command.args(["-i".as_ref(), shipped("config/ansible/inventory.ini").as_os_str()]).args(words);
    command.env("HOME", run.dir()).env("ANSIBLE_LOCALHOST_WARNING", "false").env("LC_ALL", "C.UTF-8");
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", run.dir().join("bin").display()));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}");
}

#[test]
fn the_playbook_restarts_an_agent_that_is_not_the_installed_one() {
    let run = Run::start().unwrap();
    let (bin, log) = (run.dir().join("bin"), run.dir().join("log"));
    fs::create_dir(&bin).unwrap();
    // The tasks after the configuration is in its place, here: something has changed.
    let mut plays: Value = serde_yaml_ng::from_str(&read("config/ansible/site.yml")).unwrap();
    let play = &mut plays[0];
    let tasks = play["tasks"].as_sequence().unwrap();
    let at = |name: &str| tasks.iter().position(|task| task["name"] == name).unwrap();
    let kept = &tasks[at("The service runs, now and after a boot")..=at("What was changed is applied")];
    let changed = "{name: Something, ansible.builtin.command: 'true', changed_when: true, notify: Reload}";
    let tasks: Vec<Value> =
        [serde_yaml_ng::from_str(changed).unwrap()].into_iter().chain(kept.iter().cloned()).collect();
    play["tasks"] = tasks.into();
    for (key, value) in [("hosts", "lb1"), ("connection", "local")] {
        play[key] = value.into();
    }
    for key in ["become", "gather_facts"] {
        play[key] = false.into();
    }
    let file = run.dir().join("rest.yml");
    fs::write(&file, serde_yaml_ng::to_string(&plays).unwrap()).unwrap();

    // An agent of which nothing but its program counts.
    let program = run.dir().join("agent");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("infinity");
    let agent = Process::spawn(&run, "agent", command).unwrap();
    let said = format!("LoadState=loaded\nActiveState=active\nMainPID={}\n", agent.pid());
    fs::write(run.dir().join("shown"), said).unwrap();
    for (name, then) in [("systemctl", "[ $1 != show ] || cat \"${0%/*}/../shown\""), ("xvip", "")] {
        let script = format!("#!/bin/sh\necho \"{name} $*\" >>\"${{0%/*}}/../log\"\n{then}\n");
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let done = || {
        ansible(&run, &[file.to_str().unwrap()]);
        let lines = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        let counts = |line: &&str| *line == "systemctl restart xvip" || *line == "xvip reload";
        lines.lines().filter(counts).map(str::to_owned).collect::<Vec<_>>()
    };
    wait("the program", || fs::read_link(format!("/proc/{}/exe", agent.pid())).is_ok_and(|exe| exe == program));
    assert_eq!(done(), ["xvip reload"]);
    fs::remove_file(&program).unwrap();
    assert_eq!(done(), ["systemctl restart xvip"]);
}

#[test]
fn the_playbook_is_one_and_its_template_a_configuration() {
    let run = Run::start().unwrap();
    // What the template needs comes from the inventory: ansible-core alone, and nothing is changed anywhere.
    let play = run.dir().join("play.yml");
    let file = run.dir().join("xvip.toml");
    let task = format!(
        "- hosts: lb1\n  connection: local\n  gather_facts: false\n  tasks:\n    - ansible.builtin.template:\n        src: {}\n        dest: {}\n",
        shipped("config/ansible/xvip.toml.j2").display(),
        file.display()
    );
    fs::write(&play, task).unwrap();
    ansible(&run, &["--syntax-check", shipped("config/ansible/site.yml").to_str().unwrap()]);
    for key in [&[][..], &["-e", "xvip_sync_key=0"]] {
        ansible(&run, &[&[play.to_str().unwrap()], key].concat());
        let check = Command::new(agent::find().unwrap()).arg("check").arg("--config").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        // The key file is the balancer's.
        let is_good = check.status.success() || !key.is_empty() && said.contains("sync.key");
        assert!(is_good, "{said}\n{}", fs::read_to_string(&file).unwrap());
    }
}
