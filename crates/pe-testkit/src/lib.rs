//! Real servers and private networks for PingExporter's tests.
//!
//! A test that needs something of the machine says so first; where that is missing, the test is
//! reported as skipped on a line of its own (and fails where `CI=true`):
//!
//! ```no_run
//! // #[test]
//! fn a_push_arrives() {
//!     pe_testkit::require!(Program("prometheus-pushgateway"));
//!     let gateway = pe_testkit::Gateway::start();
//!     // … push to gateway.url() …
//!     assert!(gateway.metrics().contains("ping_up"));
//!     assert!(!gateway.log().contains("inconsistent"));
//! }
//! ```
//!
//! What touches other addresses than loopback ones runs in a network namespace, which no packet
//! leaves:
//!
//! ```no_run
//! // #[test]
//! fn a_silent_device_is_down() {
//!     pe_testkit::require!(Namespaces);
//!     pe_testkit::in_namespace(|namespace| {
//!         let silent = namespace.silent_v4(1);
//!         // A runtime built here has its threads in the namespace as well.
//!         let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
//!         // … ping `silent` …
//!     });
//! }
//! ```
//!
//! A network that behaves as badly as a test needs is a [`Simnet`]: a TUN device in a namespace with a
//! simulator behind it, which a [`Scenario`] tells who answers, how late, and with which faults. What it
//! really did is in its [`Truth`], counted exactly, to compare with what the program under test says:
//!
//! ```no_run
//! use pe_testkit::{Family, Scenario, Simnet, in_namespace};
//!
//! // #[test]
//! fn every_third_request_is_lost() {
//!     pe_testkit::require!(Tun);
//!     let scenario: Scenario = serde_json::from_str(r#"{
//!         "about": "A device that loses every third request",
//!         "devices": [{ "hosts": 1, "delay": 5, "faults": [{ "when": { "every": 3 }, "do": "drop" }] }]
//!     }"#).expect("a scenario");
//!     in_namespace(|namespace| {
//!         let network = Simnet::start(namespace, &scenario, Family::V4);
//!         let device = network.address(1);
//!         // … ping `device` nine times …
//!         assert_eq!(network.truth().groups[0].dropped, 3);
//!     });
//! }
//! ```
//!
//! The scenarios that the ping engine has to pass are files under `fixtures/scenarios`; its page says
//! what they can hold.
//!
//! Tests wait for conditions ([`wait::until`]), never for a fixed time. All processes that are
//! started here end with the value that stands for them, and at the latest with the test program.
//!
//! | for | use |
//! | --- | --- |
//! | needs, skipped tests | [`require!`], [`skip`], [`Need`] |
//! | servers | [`Gateway`], [`Nginx`], [`Prometheus`], [`VictoriaMetrics`], [`NameServer`], any other: [`Server`] |
//! | certificates | [`certificates::Authority`] |
//! | remote write, with faults | [`WriteReceiver`] |
//! | metrics that others accept | [`promtool_check_metrics`], [`promtool`] |
//! | a private network | [`in_namespace`], [`Namespace`] |
//! | devices with delay, loss, errors and lies | [`Simnet`], [`Scenario`], [`Truth`] |
//! | when packets really left and came | [`Capture`] |
//! | requests | [`http::get`], [`http::request`] |
//! | pages as a person uses them | [`Browser`] |
//! | waiting | [`wait::until`] |

pub mod certificates;
pub mod http;
pub mod wait;

mod browser;
mod capture;
mod dns;
mod gateway;
mod netns;
mod nginx;
mod prometheus;
mod require;
mod server;
mod simnet;
mod spawn;
mod victoria_metrics;
mod write_receiver;

pub use browser::Browser;
pub use capture::Capture;
pub use dns::NameServer;
pub use gateway::Gateway;
pub use netns::{Namespace, in_namespace};
pub use nginx::Nginx;
pub use prometheus::{Prometheus, PrometheusOptions, promtool, promtool_check_metrics};
pub use require::require as require_needs;
pub use require::{Need, SKIPS_FILE, find_program, skip};
pub use server::{Server, free_port};
pub use simnet::{
    Action, Delay, DeviceGroup, ErrorKind, ErrorMessage, Family, Fault, Forgery, GroupTruth, Hosts,
    Identifiers, InjectedDelay, Noise, Scenario, Simnet, Storm, Truth, When,
};
pub use spawn::{command, start};
pub use victoria_metrics::{ExportedSamples, VictoriaMetrics};
pub use write_receiver::{
    ReceivedWrite, WriteAnswer, WriteReceiver, WrittenMetadata, WrittenSample, WrittenSeries,
};
