//! `command` with plugins of Debian, and with programs that misbehave.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Shown, probe};
use futures_util::FutureExt;
use pe_probe::CommandFactory;
use pe_scrape::{Batch, ScraperFactory, ScraperSettings, Table, Target};
use pe_testkit::{require, wait};
use serde_json::{Value, json};

/// Where Debian's plugins are.
const PLUGINS: &str = "/usr/lib/nagios/plugins";

/// A factory that allows every program.
fn factory() -> CommandFactory {
    CommandFactory::default().allow([PathBuf::from("/")])
}

async fn run(host: &str, own: Value) -> Shown {
    probe(&factory(), host, own).await
}

/// Runs a script of a shell, which is a program like others.
async fn script(text: &str) -> Shown {
    // A dollar sign of the shell is none of ours.
    let text = text.replace('$', "$$");
    run(
        "127.0.0.1",
        json!({"argv": ["/bin/sh", "-c", text], "timeout": "5s"}),
    )
    .await
}

fn has_plugins(test: &str) -> bool {
    let is_there = Path::new(PLUGINS).join("check_http").is_file();
    if !is_there {
        pe_testkit::skip(test, "needs the package monitoring-plugins-basic");
    }
    is_there
}

/// A page of a real nginx behind its plugin.
#[tokio::test]
async fn plugins_of_debian_tell_states_and_performance_data() {
    if !has_plugins("plugins_of_debian_tell_states_and_performance_data") {
        return;
    }
    require!(Program("nginx"));
    let nginx = pe_testkit::Nginx::with_directives(
        pe_testkit::free_port().unwrap(),
        "location = / { return 200; } location /ok { return 200 'fine'; }",
    );
    let port = nginx.address().port().to_string();
    let http = |url: &str| json!({"argv": [format!("{PLUGINS}/check_http"), "-I", "${address}", "-p", port, "-u", url, "-w", "2", "-c", "4"]});
    let shown = run("127.0.0.1", http("/ok")).await;
    shown.succeeded();
    assert_eq!(shown.value("probe_command_state"), Some(0.0));
    assert_eq!(shown.value("probe_command_perfdata_invalid"), Some(0.0));
    assert_eq!(shown.label("probe_success", "probe"), "command:check_http");
    let seconds = shown.value("probe_command_perfdata_seconds").unwrap();
    assert!((0.0..2.0).contains(&seconds));
    assert_eq!(
        shown.label("probe_command_perfdata_seconds", "label"),
        "time"
    );
    assert_eq!(
        shown.label("probe_command_perfdata_seconds", "probe"),
        "command:check_http"
    );
    let thresholds = shown
        .series
        .iter()
        .filter(|(name, ..)| name == "probe_command_threshold_seconds");
    assert_eq!(thresholds.count(), 4);
    assert!(
        shown
            .of("probe_command_perfdata_bytes", ("label", "size"))
            .unwrap()
            > 4.0
    );
    // No page there: WARNING for a client's error, which is a failure only where that is set.
    let shown = run("127.0.0.1", http("/nosuch")).await;
    let state = shown.value("probe_command_state").unwrap();
    assert!(state == 1.0 || state == 2.0, "{state}");

    let closed = json!({"argv": [format!("{PLUGINS}/check_tcp"), "-H", "${address}", "-p", "1"]});
    for host in ["127.0.0.1", "::1"] {
        let shown = run(host, closed.clone()).await;
        shown.failed("critical");
        assert_eq!(shown.value("probe_command_state"), Some(2.0));
    }
}

#[tokio::test]
async fn states_are_those_of_exit_codes() {
    if !has_plugins("states_are_those_of_exit_codes") {
        return;
    }
    let dummy = |state: u8, warning_is_down: bool| {
        let argv = [
            format!("{PLUGINS}/check_dummy"),
            state.to_string(),
            "as told".to_owned(),
        ];
        run(
            "127.0.0.1",
            json!({"argv": argv, "warning_is_down": warning_is_down}),
        )
    };
    dummy(0, false).await.succeeded();
    dummy(1, false).await.succeeded();
    dummy(1, true).await.failed("warning");
    dummy(2, false).await.failed("critical");
    let shown = dummy(3, false).await;
    assert_eq!(shown.reasons(), ["plugin_unknown"]);
    assert_eq!(
        (
            shown.value("probe_success"),
            shown.value("probe_command_state")
        ),
        (None, Some(3.0))
    );
}

#[tokio::test]
async fn what_is_no_state_says_nothing_of_the_device() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    fs::write(&plain, "text").unwrap();
    for (argv, reason) in [
        (json!(["/bin/sh", "-c", "exit 4"]), "exit_code"),
        (json!(["/bin/sh", "-c", "nosuch-program"]), "exit_code"),
        (json!(["/bin/sh", "-c", "kill -9 $$$$"]), "killed"),
        (json!(["/nosuch/program"]), "not_started"),
        (json!([plain]), "not_started"),
        (json!(["/bin/true", "${nosuch}"]), "not_started"),
        (json!(["/usr/bin/yes"]), "output_too_large"),
        (json!(["/bin/sh", "-c", "yes & exit 0"]), "output_too_large"),
    ] {
        let shown = run("127.0.0.1", json!({"argv": argv, "max_output": 4096})).await;
        if reason == "output_too_large" && shown.value("probe_success") == Some(1.0) {
            // It ended before it had written so much.
            continue;
        }
        assert_eq!(shown.reasons(), [reason], "{argv}");
        assert_eq!(shown.value("probe_success"), None);
    }
}

#[tokio::test]
async fn a_program_gets_its_arguments_and_nothing_else_of_ours() {
    let shown = run("::1", json!({"argv": ["/bin/sh", "-c", "[ \"$$1 $$2 $$#\" = '::1 a b;c 2' ]", "x", "${address}", "a b;c"]})).await;
    shown.succeeded();
    let environment = "env | sort | tr '\\n' ' '; test \"$(env | grep -v -e ^PWD= -e ^_= -e ^OLDPWD= -e ^SHLVL=)\" = A=b";
    let shown = run("127.0.0.1", json!({"argv": ["/bin/sh", "-c", environment.replace('$', "$$")], "environment": {"A": "b"}})).await;
    shown.succeeded();
    script("test \"$(pwd)\" = /").await.succeeded();
    script("test \"$(cat | wc -c)\" = 0").await.succeeded();
    script("grep -q 'NoNewPrivs:.1' /proc/self/status")
        .await
        .succeeded();
    // The threads of this process keep theirs.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("NoNewPrivs:\t0"), "{status}");
}

#[tokio::test]
async fn output_may_come_in_pieces_and_after_errors() {
    let shown =
        script("echo one >&2; echo 'OK | a=1'; sleep 0.1; echo '| b=2'; echo more >&2").await;
    shown.succeeded();
    assert_eq!(
        shown.of("probe_command_perfdata", ("label", "a")),
        Some(1.0)
    );
    assert_eq!(
        shown.of("probe_command_perfdata", ("label", "b")),
        Some(2.0)
    );
    // More errors than a pipe holds do not stop it.
    script("head -c 300000 /dev/zero >&2").await.succeeded();
}

/// The processes that have this word among their arguments.
fn with_word(word: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let paths = processes.map(|entry| entry.path());
    paths
        .filter(|path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|argument| argument == word.as_bytes())
        })
        .collect()
}

/// Children of this process that have ended and were not waited for.
fn zombies() -> usize {
    let own = format!("({})", std::process::id());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let fields = stats.filter_map(|stat| stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()));
    let id = own.trim_matches(['(', ')']).to_owned();
    fields
        .filter(|rest| rest.starts_with(&format!("Z {id} ")))
        .count()
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    // A name that no other test uses.
    let word = "31536001";
    let hang = format!("sleep {word} & sleep {word} & trap '' TERM; sleep {word}; sleep {word}");
    let own = json!({"argv": ["/bin/sh", "-c", hang], "timeout": "300ms"});
    let shown = run("127.0.0.1", own).await;
    shown.failed("timeout");
    wait::until("the group to end", || {
        with_word(word).is_empty().then_some(())
    });
    // What stays behind a program that has ended goes too.
    script(&format!("sleep {word} & exit 0")).await.succeeded();
    wait::until("the group to end", || {
        with_word(word).is_empty().then_some(())
    });
    wait::until("nothing to be left", || (zombies() == 0).then_some(()));
}

/// Whether all threads that watch programs wait for their end.
fn all_are_watched() -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = threads.filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
    let mut stats = stats.filter(|stat| stat.contains("(command)"));
    stats.all(|stat| stat.contains(") S "))
}

#[tokio::test]
async fn a_dropped_batch_leaves_no_program() {
    // Dropped while the program runs, and before it is known that it does.
    for (word, is_known) in [("31536002", true), ("31536003", false)] {
        let own = json!({"argv": ["/bin/sleep", word], "timeout": "30s"});
        {
            let asking = run("127.0.0.1", own);
            tokio::pin!(asking);
            assert!((&mut asking).now_or_never().is_none());
            wait::until_true("the program to start", || {
                !with_word(word).is_empty() && all_are_watched()
            });
            if is_known {
                let wait = tokio::time::timeout(Duration::from_millis(10), &mut asking);
                assert!(wait.await.is_err());
            }
        }
        wait::until_true("the program to end", || with_word(word).is_empty());
    }
    wait::until_true("nothing to be left", || zombies() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_programs_run_at_once_than_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_str().unwrap();
    let count = ": > $0/$$; ls $0 | wc -l > $0.$$; sleep 0.05; rm $0/$$";
    let own = json!({"argv": ["/bin/sh", "-c", count.replace('$', "$$"), format!("{here}/now")], "concurrency": 3});
    fs::create_dir(directory.path().join("now")).unwrap();
    let mut settings = ScraperSettings::default().with_own(own);
    settings.timeout = Duration::from_secs(10);
    let scraper = factory().create(&settings).unwrap();
    let targets: Arc<[Target]> = (1..=12)
        .map(|n| Target::from_ip(Ipv4Addr::new(127, 0, 0, n).into()))
        .collect();
    let table = Arc::new(Table::new(scraper.columns().clone(), targets.len()));
    let batch = Batch::new(targets, table, Instant::now() + Duration::from_secs(30));
    scraper.scrape_batch(&batch).await.unwrap();
    assert_eq!(
        (batch.progress().errors(), batch.unfinished().count()),
        (0, 0)
    );
    let counts = fs::read_dir(directory.path()).unwrap().flatten();
    let counts: Vec<u32> = counts
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            fs::read_to_string(entry.path())
                .unwrap()
                .trim()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(counts.len(), 12);
    assert!(counts.iter().all(|count| *count <= 3), "{counts:?}");
}

#[test]
fn programs_are_run_only_where_they_are_allowed() {
    let refused = |factory: CommandFactory, own: Value| {
        let settings = ScraperSettings::default().with_own(own);
        factory.describe(&settings).unwrap_err().to_string()
    };
    let none = CommandFactory::default().advice("--allow-commands allows some");
    assert_eq!(
        refused(none, json!({"argv": ["/bin/true"]})),
        "argv[0]: /bin/true is not run: no program is allowed; --allow-commands allows some"
    );
    let some = CommandFactory::default().allow([PathBuf::from(PLUGINS)]);
    assert!(refused(some, json!({"argv": ["/bin/true"]})).contains("is not below what is allowed"));
    assert!(refused(factory(), json!({})).starts_with("argv: is empty"));
    assert!(refused(factory(), json!({"argv": ["true"]})).contains("expected the absolute path"));
    assert!(
        refused(factory(), json!({"argv": ["/bin/${device}"]}))
            .contains("expected the absolute path")
    );
    assert!(
        refused(factory(), json!({"argv": ["/bin/true", "${x"]}))
            .starts_with("argv[1]: a placeholder")
    );
    let own = json!({"argv": ["/bin/true"], "environment": {"A=": "b"}});
    assert!(refused(factory(), own).contains("not an environment variable"));
}

#[test]
fn a_plugin_that_needs_rights_is_told_by_name() {
    if !has_plugins("a_plugin_that_needs_rights_is_told_by_name") {
        return;
    }
    let review = |program: &str| {
        let own = json!({"argv": [program]});
        let told = factory().review(&ScraperSettings::default().with_own(own));
        told.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = review("/usr/lib/nagios/plugins/check_icmp");
    assert!(
        told[0].starts_with(
            "/usr/lib/nagios/plugins/check_icmp runs without the capabilities of its file"
        ),
        "{told:?}"
    );
    assert_eq!(review("/usr/lib/nagios/plugins/check_tcp"), [""; 0]);
    assert!(review("/nosuch/program")[0].starts_with("cannot find /nosuch/program"));
}

/// Runs a script whose output is a page of metrics.
async fn page(text: &str, further: Value) -> Shown {
    let mut own = json!({"argv": ["/bin/sh", "-c", text], "output": "exposition"});
    let further = further.as_object().unwrap().clone();
    own.as_object_mut().unwrap().extend(further);
    run("127.0.0.1", own).await
}

#[tokio::test]
async fn a_page_of_metrics_on_standard_output_is_passed_on() {
    let text = "cat <<'END'\n# TYPE site_jobs gauge\nsite_jobs{device=\"tape\"} 3 1700000000000\nsite_jobs{device=\"tape\"} 4\n\
                site_jobs{__x=\"1\"} 1\n# TYPE site_runs counter\nsite_runs 7\nEND\necho looks >&2; exit 2";
    let shown = page(text, json!({"name": "backup"})).await;
    // The exit code says how the device is.
    shown.failed("critical");
    assert_eq!(shown.value("probe_command_state"), Some(2.0));
    assert_eq!(shown.value("probe_command_exit_code"), Some(2.0));
    assert_eq!(shown.value("site_jobs"), Some(3.0));
    assert_eq!(shown.label("site_jobs", "device"), "device");
    assert_eq!(shown.label("site_jobs", "exported_device"), "tape");
    assert_eq!(shown.label("site_jobs", "probe"), "");
    assert_eq!(shown.value("site_runs"), Some(7.0));
    assert_eq!(shown.value("probe_exposition_series"), Some(2.0));
    assert_eq!(
        shown.value("probe_exposition_timestamped_series"),
        Some(1.0)
    );
    for reason in ["invalid", "duplicate"] {
        let dropped = shown.of("probe_exposition_dropped_series", ("reason", reason));
        assert_eq!(dropped, Some(1.0), "{reason}");
    }
    assert_eq!(shown.label("probe_exposition_series", "probe"), "backup");
    assert_eq!(shown.value("probe_command_perfdata_invalid"), None);
    // OpenMetrics has an end.
    let text = "printf '# TYPE runs counter\\nruns_total 1\\n# EOF\\n'";
    let shown = page(text, json!({})).await;
    shown.succeeded();
    assert_eq!(shown.value("runs_total"), Some(1.0));
    page("exit 0", json!({})).await.succeeded();
}

#[tokio::test]
async fn output_that_is_no_page_says_nothing_of_the_device() {
    let many = "i=0; while [ $$i -lt 20 ]; do echo \"a{n=\\\"$$i\\\"} 1\"; i=$$((i+1)); done";
    for (text, further, reason) in [
        (
            "echo 'OK - all is well | a=1'",
            json!({}),
            "output_malformed",
        ),
        (
            "printf 'a{x=\"\\377\"} 1\\n'",
            json!({}),
            "output_malformed",
        ),
        (many, json!({"max_series": 10}), "output_too_large"),
        ("yes 'a 1'", json!({"max_output": 4096}), "output_too_large"),
        ("echo 'a 1'; exit 4", json!({}), "exit_code"),
    ] {
        let shown = page(text, further).await;
        assert_eq!(shown.reasons(), [reason], "{text}");
        assert_eq!(shown.value("probe_success"), None, "{text}");
        let passed_on = shown.series.iter().any(|(name, ..)| name == "a");
        assert!(!passed_on, "{text}");
    }
    page(many, json!({})).await.succeeded();
    // What is wrong with the device comes first.
    page("echo '<html>'; exit 2", json!({}))
        .await
        .failed("critical");
}
