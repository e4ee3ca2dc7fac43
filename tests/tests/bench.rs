//! The benchmark itself, for as short as it can be: everybody serves, nothing fails, nothing stays. Needs root and the agent.

use std::fs;
use std::process::{Command, Stdio};

use xvip_tests::agent;

/// Figures of such a run mean nothing; that they are there does.
#[test]
fn everybody_is_measured_and_nothing_fails() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.arg("--xvip").arg(agent::find().unwrap());
    bench.args(["--quick", "--rounds", "1", "--seconds", "0.2", "--wires", "wire"]);
    bench.args(["--only", "connections", "requests-paced", "tls", "upload-4", "packets", "new-flows"]);
    for option in ["json", "svg", "markdown"] {
        bench.arg(format!("--{option}")).arg(file(option));
    }
    let output = bench.stdin(Stdio::null()).output().unwrap();
    let said = || format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", said());

    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(file("json")).unwrap()).unwrap();
    let tables = report["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 4, "{}", said());
    for table in tables {
        let rows = table["rows"].as_array().unwrap();
        let names: Vec<_> = rows.iter().filter_map(|row| row["balancer"].as_str()).collect();
        assert_eq!(names, ["direct", "haproxy", "nftables", "xvip-xdp", "xvip-tc"]);
        for row in rows {
            assert!(row["figures"]["rate"]["median"].as_f64().unwrap() > 0.0, "{}", said());
        }
    }
    let costs = report["costs"].as_array().unwrap();
    assert_eq!(costs.iter().filter(|cost| cost["phase"] == "packets").count(), 4, "{}", said());
    assert_eq!(costs.iter().filter(|cost| cost["phase"] == "new-flows").count(), 3, "{}", said());
    assert!(fs::read_to_string(file("svg")).unwrap().ends_with("</svg>\n"));
    assert!(fs::read_to_string(file("markdown")).unwrap().contains(" xvip-xdp |"));
}
