//! Every rejection has a fixture and says what is wrong where.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use common::{SCRAPERS, SINKS, fixture, load_dir, sources, sources_of};
use pe_config::{Environment, Overrides, Sources, load};

/// The entries of a fixture directory, sorted.
fn entries(directory: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixture(directory))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn bad_group_files() {
    for name in entries("bad/group") {
        let problems = load_dir(&format!("bad/group/{name}")).unwrap_err();
        assert!(problems.diagnostics.has_errors(), "{name}");
        insta::assert_snapshot!(format!("group-{name}"), problems);
    }
}

#[test]
fn bad_push_configurations() {
    for file in entries("bad/push") {
        let Some(name) = file.strip_suffix(".json") else {
            continue;
        };
        let mut sources = sources("loopback/project1");
        sources.push_config = Some(fixture(&format!("bad/push/{file}")));
        let problems = load(&sources).unwrap_err();
        let shown = problems.to_string();
        assert!(
            !shown.contains("s3cret") && !shown.contains("12345"),
            "{shown}"
        );
        insta::assert_snapshot!(format!("push-{name}"), shown);
    }
}

#[test]
fn missing_directory() {
    insta::assert_snapshot!(load_dir("no-such-directory").unwrap_err());
}

#[test]
fn a_file_in_the_place_of_the_directory() {
    insta::assert_snapshot!(load_dir("loopback/push_config.json").unwrap_err());
}

#[test]
fn directory_without_json_files() {
    insta::assert_snapshot!(load_dir("bad/no-json-file").unwrap_err());
}

#[test]
fn missing_push_configuration() {
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(fixture("no-such-file.json"));
    insta::assert_snapshot!(load(&sources).unwrap_err());
}

#[test]
fn a_directory_in_the_place_of_the_push_configuration() {
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(fixture("loopback"));
    insta::assert_snapshot!(load(&sources).unwrap_err());
}

/// A directory that only this test has, with a group file of the given name.
fn own_directory(name: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    let text = r#"{"conf": {"prom_id": "a", "interval": 30}, "jobs": []}"#;
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

/// The problems of a directory, without its path.
fn problems_in(directory: &tempfile::TempDir) -> String {
    let problems = load(&sources_of(directory.path())).unwrap_err().to_string();
    problems.replace(&*directory.path().to_string_lossy(), "DIRECTORY")
}

#[cfg(unix)]
#[test]
fn things_that_are_no_readable_file() {
    let (directory, path) = own_directory("a.json");
    std::fs::create_dir(directory.path().join("directory.json")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("dangling.json")).unwrap();
    std::os::unix::fs::symlink("loop.json", directory.path().join("loop.json")).unwrap();
    std::os::unix::fs::symlink("/dev/null", directory.path().join("null.json")).unwrap();
    std::fs::write(&path, "{}").unwrap();
    insta::assert_snapshot!(problems_in(&directory));
}

/// Tells the copy of this test that runs as another user where the unreadable files are.
#[cfg(unix)]
const UNREADABLE: &str = "PE_CONFIG_TEST_UNREADABLE";

/// Root may read everything, so as root this starts itself again as another user.
#[cfg(unix)]
#[test]
fn unreadable_files_and_directories() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let nobody = 65_534;
    if let Some(directory) = std::env::var_os(UNREADABLE) {
        let file = Sources::new(&directory, &SCRAPERS, &SINKS);
        println!("{}", load(&file).unwrap_err());
        let locked = Sources::new(PathBuf::from(directory).join("locked"), &SCRAPERS, &SINKS);
        println!("{}", load(&locked).unwrap_err());
        return;
    }
    let (directory, path) = own_directory("a.json");
    let locked = directory.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    for (path, mode) in [(directory.path(), 0o755), (&path, 0o000), (&locked, 0o000)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let program = std::env::current_exe().unwrap();
    let mut again = std::process::Command::new(program);
    again.args(["--exact", "unreadable_files_and_directories", "--nocapture"]);
    again.env(UNREADABLE, directory.path()).current_dir("/");
    if std::fs::read(&path).is_ok() {
        again.uid(nobody).gid(nobody);
    }
    let output = match again.output() {
        Ok(output) => output,
        Err(error) => {
            let reason = format!("the test program cannot be started as another user: {error}");
            pe_testkit::skip("unreadable_files_and_directories", &reason);
            return;
        }
    };
    std::fs::set_permissions(&locked, Permissions::from_mode(0o755)).unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let shown = shown.replace(&*directory.path().to_string_lossy(), "DIRECTORY");
    let problems: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("DIRECTORY"))
        .collect();
    insta::assert_snapshot!(problems.join("\n"));
}

#[test]
fn environment_variables() {
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(fixture("loopback/push_config.json"));
    sources.env = [
        ("PINGEXPORTER_CONF_INTERVAL", "soon"),
        ("PINGEXPORTER_CONF_COUNT", "0"),
        ("PINGEXPORTER_CONF_VALUE_DEV_DOWN", "inf"),
        ("PINGEXPORTER_CONF_PACER_RATE", "-1"),
        ("PINGEXPORTER_CONF_FAMILY", "7"),
        ("PINGEXPORTER_CONF_MAX_TARGETS", "1.5"),
        ("PINGEXPORTER_PORT_PUSHGATEWAY", "99999"),
        ("PINGEXPORTER_GROUPING", "devices"),
        ("PINGEXPORTER_IP_PUSHGATEWAY", "a b"),
        ("PINGEXPORTER_PASS_PUSHGATEWAY_FILE", "no-such-file"),
        ("PINGEXPORTER_CONF_INTERVALL", "5"),
        ("PINGEXPORTER_LISTEN", "127.0.0.1:9516"),
        ("PINGEXPORTER_QQQ", "x"),
        ("HOME", "/"),
    ]
    .into_iter()
    .collect::<Environment>()
    .with_others(["PINGEXPORTER_LISTEN"]);
    insta::assert_snapshot!(load(&sources).unwrap_err());
}

#[cfg(unix)]
#[test]
fn environment_variable_that_is_not_utf8() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let mut sources = sources("loopback/project1");
    let value = OsString::from_vec(vec![0xff]);
    sources.env = [("PINGEXPORTER_CONF_INTERVAL", value)]
        .into_iter()
        .collect();
    insta::assert_snapshot!(load(&sources).unwrap_err());
}

#[test]
fn environment_against_file() {
    let mut sources = sources("loopback/project1");
    sources.env = [("PINGEXPORTER_CONF_INTERVAL", "500ms")]
        .into_iter()
        .collect();
    insta::assert_snapshot!(load(&sources).unwrap_err());
}

#[test]
fn flags() {
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(fixture("loopback/push_config.json"));
    sources.overrides = Overrides::new()
        .set("--grouping", "push.grouping", "both")
        .set("--interval", "conf.interval", "-1")
        .set("--colour", "conf.colour", "red")
        .set("--set conf.labels=x", "conf.labels", "x")
        .set("--set conf.prom_id=x", "conf.prom_id", "x")
        .set("--set conf.pacer.rat=1", "conf.pacer.rat", "1");
    insta::assert_snapshot!(load(&sources).unwrap_err());
}
