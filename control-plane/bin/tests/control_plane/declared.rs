//! Export, import and the file as the store.

use std::process::{Command, Output};

use tempfile::TempDir;

/// The program with a configuration in `folder` and these lines in it.
fn run(folder: &TempDir, name: &str, lines: &str, arguments: &[&str]) -> Output {
    let path = folder.path().join(format!("{name}.yaml"));
    let data = folder.path().join(name);
    std::fs::write(&path, format!("data_dir: {}\n{lines}", data.display())).expect("written");
    let mut program = Command::new(env!("CARGO_BIN_EXE_weft-control-plane"));
    program.arg("-c").arg(path).args(arguments).output().expect("it runs")
}

#[test]
fn what_is_imported_is_exported_again() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("apisix.yaml");
    let text = "routes:\n- id: '1'\n  uri: /a\n  upstream:\n    nodes:\n      a:1: 1\n#END\n";
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("UTF-8");
    let output = run(&folder, "one", "", &["import", file]);
    assert!(output.status.success(), "{output:?}");
    let message = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(message.contains("1 written, 0 deleted, 0 unchanged"), "{message}");
    let out = folder.path().join("out.yaml");
    let out = out.to_str().expect("UTF-8");
    assert!(run(&folder, "one", "", &["export", "--output", out]).status.success());
    let lines =
        format!("deployment: {{role_data_plane: {{config_provider: yaml, config_file: {out}}}}}\n");
    let exported = run(&folder, "two", &lines, &["export"]);
    assert!(exported.status.success(), "{exported:?}");
    let exported = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert_eq!(exported, std::fs::read_to_string(out).expect("written"));
    assert!(exported.contains("/a") && exported.ends_with("#END\n"), "{exported}");
    std::fs::write(file, text.replace("/a", "/b")).expect("written");
    let refused = run(&folder, "two", &lines, &["import", file]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("out.yaml"), "{refused:?}");
}

#[test]
fn a_file_with_a_wrong_item_is_not_imported() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("apisix.yaml");
    std::fs::write(&file, "routes:\n- id: '1'\n  uri: 5\n#END\n").expect("written");
    let output = run(&folder, "one", "", &["import", file.to_str().expect("UTF-8")]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for part in ["apisix.yaml", "line 2", "uri"] {
        assert!(message.contains(part), "{message}");
    }
}
