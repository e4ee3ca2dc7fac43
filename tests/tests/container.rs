//! Image, static pod and Ansible example, as far as they can be tried where no container engine, no kubelet and no other host is:
//! the image's files laid out by its recipe and run with what the pod grants, the files read as their readers do. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{LIMIT, OFTEN, end, unstarted, wait};
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

/// Capabilities that the pod's container is given, as the kernel names them.
fn granted(pod: &Value) -> Vec<String> {
    let capabilities = &pod["spec"]["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"][0], "ALL");
    let added = capabilities["add"].as_sequence().unwrap();
    added.iter().map(|name| format!("CAP_{}", name.as_str().unwrap())).collect()
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
    assert_eq!(container["securityContext"]["privileged"], false);
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
/// the capabilities to keep.
const CONTAINER: &str = r#"
set -e
root=$1 run=$2 kept=$3
shift 3
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/sys" "$root/etc/xvip" "$root/run/xvip" "$root/var/lib/xvip" "$root$run"
mount -t tmpfs none "$root/run/xvip"
mount -t tmpfs none "$root/var/lib/xvip"
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t bpf none "$root/sys/fs/bpf"
mount --bind "$run" "$root$run"
mount -o remount,bind,ro "$root"
exec setpriv --bounding-set "-all,$kept" --inh-caps -all --no-new-privs chroot "$root" "$@"
"#;

#[test]
fn the_image_serves_with_what_the_pod_grants() {
    let mut topology = unstarted(1, &[OFTEN]);
    let run = topology.run.clone();
    let root = run.dir().join("image");
    let mut command_line = lay_out(&root, &agent::find().unwrap());
    fs::create_dir_all(root.join("etc/xvip")).unwrap();
    fs::copy(topology.balancers[0].agent.config(), root.join("etc/xvip/xvip.toml")).unwrap();
    let version = Command::new("chroot").arg(&root).args(["/usr/bin/xvip", "--version"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("xvip {}\n", env!("CARGO_PKG_VERSION")));

    // chroot(8) is what is left of a container engine here, and takes the right to, which the agent gives up.
    let kept =
        granted(&pod()).iter().map(|name| name.replace("CAP_", "+")).collect::<Vec<_>>().join(",").to_lowercase();
    let netns = topology.balancers[0].agent.netns().clone();
    let mut command = netns.command("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-c", CONTAINER, "sh"]);
    command.arg(&root).arg(run.dir()).arg(format!("{kept},+sys_chroot")).args(command_line.drain(..));
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
    let ansible = |words: &[&str]| {
        let mut command = Command::new("ansible-playbook");
        command.args(["-i".as_ref(), shipped("config/ansible/inventory.ini").as_os_str()]).args(words);
        command.env("HOME", run.dir()).env("ANSIBLE_LOCALHOST_WARNING", "false").env("LC_ALL", "C.UTF-8");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}");
    };
    ansible(&["--syntax-check", shipped("config/ansible/site.yml").to_str().unwrap()]);
    for key in [&[][..], &["-e", "xvip_sync_key=0"]] {
        ansible(&[&[play.to_str().unwrap()], key].concat());
        let check = Command::new(agent::find().unwrap()).arg("check").arg("--config").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        // The key file is the balancer's.
        let is_good = check.status.success() || !key.is_empty() && said.contains("sync.key");
        assert!(is_good, "{said}\n{}", fs::read_to_string(&file).unwrap());
    }
}
