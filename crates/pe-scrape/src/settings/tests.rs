use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::Secret;

crate::settings! {
    /// How fast.
    struct Pace("pace") {
        /// A second.
        rate: Option<f64>, above(0.0);
        /// Back to back.
        burst: u32 = 64, range(1.0, 65_536.0);
    }
}

crate::choices! {
    /// One of two.
    enum Side {
        /// The first.
        #[default]
        Left = "left",
        /// The second.
        Right = "right",
    }
}

crate::settings! {
    /// One key of each type.
    struct Everything("the settings") {
        /// Needed.
        name: String;
        /// A duration.
        timeout: Option<Duration>;
        /// A flag.
        fast: bool = false;
        /// A choice.
        side: Side = Side::Left;
        /// An address.
        source: Option<IpAddr>;
        /// A port.
        port: Option<Port>;
        /// A secret.
        password: Option<Secret>;
        /// A list.
        sizes: Vec<u16>, range(1.0, 100.0);
        /// An object.
        pace: Option<Pace>;
        /// A key that is a word of the language.
        r#type: Option<String>, named("type");
    }
}

fn problems(value: Value) -> Vec<String> {
    let error = decode::<Everything>(&value).unwrap_err();
    let all = error.problems().iter();
    all.map(|problem| format!("{} {problem}", problem.pointer()))
        .collect()
}

#[test]
fn every_type_is_decoded() {
    let decoded: Everything = decode(&json!({
        "name": "x", "timeout": "1m 30s", "fast": true, "side": "right", "source": "::1", "port": "25",
        "password": "hunter2", "sizes": [1, 100], "pace": {"rate": 0.5}, "type": "A",
    }))
    .unwrap();
    assert_eq!(decoded.timeout, Some(Duration::from_secs(90)));
    assert!(decoded.fast && decoded.side == Side::Right);
    assert_eq!(decoded.port, Some(Port(25)));
    assert_eq!(decoded.sizes, [1, 100]);
    let pace = decoded.pace.as_ref().unwrap();
    assert_eq!((pace.rate, pace.burst), (Some(0.5), 64));
    assert_eq!(decoded.r#type.as_deref(), Some("A"));
    assert_eq!(decoded.encode()["password"], "[redacted]");
    assert!(!format!("{decoded:?}").contains("hunter2"));
    let absent: Everything = decode(&json!({"name": "x"})).unwrap();
    assert_eq!((absent.sizes.len(), absent.side), (0, Side::Left));
}

#[test]
fn all_problems_are_told_at_once_with_their_places_and_choices() {
    let told = problems(json!({
        "nmae": 1, "timeout": "soon", "fast": "yes", "side": "rigth", "source": "here", "port": 0,
        "sizes": [0, 1.5, "x"], "pace": {"rate": 0, "burts": 1}, "password": 5,
    }));
    assert_eq!(
        told,
        [
            "/nmae unknown key `nmae` in the settings (did you mean `name`?)",
            " missing key `name` in the settings",
            r#"/timeout timeout: found "soon", expected a number of seconds or a duration such as "1.5s", "250ms" or "1m 30s""#,
            "/fast fast: found a string, expected true or false",
            "/side side: found `rigth`, expected `left` or `right`; did you mean `right`?",
            "/source source: found `here`, expected an IPv4 or IPv6 address",
            "/port port: out of range, expected a whole number from 1 to 65535",
            "/password password: found a number, expected a string",
            "/sizes/0 sizes[0]: out of range, expected a whole number from 1 to 100",
            "/sizes/1 sizes[1]: found 1.5, expected a whole number from 1 to 100",
            "/sizes/2 sizes[2]: found a string, expected a whole number from 1 to 100",
            "/pace/burts unknown key `burts` in pace (did you mean `burst`?)",
            "/pace/rate pace.rate: must be greater than zero",
        ]
    );
}

#[test]
fn values_set_in_code_meet_the_same_bounds() {
    let mut value: Everything = decode(&json!({"name": "x", "pace": {}})).unwrap();
    value.name = " ".into();
    value.timeout = Some(Duration::ZERO);
    value.sizes = vec![101];
    value.pace.as_mut().unwrap().burst = 0;
    let mut problems = Problems::default();
    value.check(&Bounds::NONE, &mut problems);
    let told: Vec<_> = problems
        .into_vec()
        .into_iter()
        .map(|problem| problem.message)
        .collect();
    assert_eq!(
        told,
        [
            "name: is empty",
            "timeout: must be greater than zero",
            "sizes[0]: out of range, expected a whole number from 1 to 100",
            "pace.burst: out of range, expected a whole number from 1 to 65536",
        ]
    );
}

#[test]
fn the_table_tells_what_was_declared() {
    let table = Everything::TABLE;
    let key = |name| table.key(name).unwrap();
    assert!(key("name").required && !key("fast").required && !key("sizes").required);
    assert_eq!(key("side").kind, Kind::Choice(&["left", "right"]));
    assert_eq!(key("side").default.unwrap()(), "left");
    assert_eq!(
        key("type").description(),
        "A key that is a word of the language."
    );
    assert_eq!(Pace::TABLE.key("burst").unwrap().default.unwrap()(), 64);
}
