//! What is unwise about settings that are in order, alone or together with the groups in force. No I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use pe_scrape::settings::{Problem, Step};
use pe_scrape::{Group, Labels, Remark, Target};

use super::{Grouping, PushgatewaySettings};

/// Devices above which a push group for each of them is too much for a Pushgateway: it checks every push group again at each
/// push, so that one push takes 4 ms at 500 push groups and 12 ms at 2,000.
const MANY_DEVICES: usize = 500;

/// All remarks.
pub(super) fn review(
    settings: &PushgatewaySettings,
    external_labels: &Labels,
    groups: &[Group],
) -> Vec<Remark> {
    let mut remarks = Vec::new();
    remarks.extend(no_identity(external_labels));
    remarks.extend(settings.common().exposed_credentials());
    if settings.grouping == Grouping::Device {
        remarks.extend(many_devices(groups));
        remarks.extend(shared_devices(groups));
    }
    remarks
}

/// Tells of a lack of labels that say which agent pushes. A note, since one agent alone needs none. Labels that no gateway takes
/// do not count.
fn no_identity(external_labels: &Labels) -> Option<Remark> {
    if external_labels
        .iter()
        .any(|(name, _)| !name.starts_with("__"))
    {
        return None;
    }
    let message = "there are no external labels: another agent that pushes devices or files of the same names to this gateway \
                   replaces their results";
    let hint = "where several agents push to it, give each a label of its own, such as \
                `\"external_labels\": {\"site\": \"${HOSTNAME}\"}`";
    let problem = Problem::error(message).hint(hint.to_owned());
    Some(Remark::note(problem))
}

/// Warns where a push group for each device is too much for a Pushgateway: at a group that is too much by itself, else for
/// all groups together.
fn many_devices(groups: &[Group]) -> Vec<Remark> {
    let remark = |count: usize, of: &str| {
        let message = format!(
            "{count} devices{of} are pushed in a group of their own each; a Pushgateway is slow above {MANY_DEVICES}"
        );
        let hint = "set `\"grouping\": \"config\"` in the push configuration";
        problem("grouping", message, hint)
    };
    let mut all: HashSet<&str> = HashSet::new();
    let mut remarks = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let names = group.devices.iter().map(|device| device.target.device());
        let names: HashSet<&str> = names.collect();
        if names.len() > MANY_DEVICES {
            remarks.push(Remark::of_group(index, remark(names.len(), "")));
        }
        all.extend(names);
    }
    if all.len() > MANY_DEVICES && remarks.is_empty() {
        let of = " of all files together";
        remarks.push(Remark::new(remark(all.len(), of)));
    }
    remarks
}

/// Warns of devices that two groups have, with the same name and address: with a push group for each device their series are
/// the same on the Pushgateway.
fn shared_devices(groups: &[Group]) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut first: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, group) in groups.iter().enumerate() {
        // For each other group, how many devices it shares with this one, and one of them.
        let mut shared: BTreeMap<usize, (usize, &Target)> = BTreeMap::new();
        for target in group.devices.iter().map(|device| &device.target) {
            let key = (target.device(), target.ip());
            let other = *first.entry(key).or_insert(index);
            if other != index {
                shared.entry(other).or_insert((0, target)).0 += 1;
            }
        }
        for (other, (count, target)) in shared {
            let place = groups[other].origin();
            let device = format!("`{}` at {}", target.device(), target.ip());
            let message = match count {
                1 => format!("device {device} is also among the jobs of {place}"),
                _ => {
                    format!("{count} devices, such as {device}, are also among the jobs of {place}")
                }
            };
            let hint = "the Pushgateway shows the later result of the two; give one another name, \
                        or set `\"grouping\": \"config\"` in the push configuration";
            remarks.push(Remark::of_group(index, problem("grouping", message, hint)));
        }
    }
    remarks
}

fn problem(key: &str, message: String, hint: &str) -> Problem {
    Problem::error(message)
        .at([Step::from(key)])
        .hint(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pe_scrape::{GroupBuilder, Secret, Severity};

    use super::*;

    fn builder(name: &str) -> GroupBuilder {
        Group::builder(name, Duration::from_secs(60))
    }

    /// A group of devices that are named by their addresses, from 127.`net`.0.1 on.
    fn group(name: &str, net: u8, count: u16) -> Group {
        let [high, low] = count.to_be_bytes();
        let range = format!("127.{net}.0.1-127.{net}.{high}.{low}");
        builder(name).device("{ip}", range).build().unwrap()
    }

    fn settings() -> PushgatewaySettings {
        PushgatewaySettings::new("http://127.0.0.1:9091")
    }

    fn told(settings: &PushgatewaySettings, groups: &[Group]) -> Vec<String> {
        let labels = Labels::from_iter([("site", "plant-a")]);
        let remarks = review(settings, &labels, groups);
        let told = remarks.iter().map(|remark| {
            assert_eq!(remark.problem.severity, Severity::Warning);
            let (group, pointer) = (remark.group, remark.problem.pointer());
            format!("{group:?} {pointer} {}", remark.problem)
        });
        told.collect()
    }

    #[test]
    fn many_devices_are_told_at_their_group() {
        let groups = [group("a", 1, 501), group("b", 2, 500), group("c", 3, 510)];
        let expected = |index: usize, count: usize| {
            format!(
                "Some({index}) /grouping {count} devices are pushed in a group of their own each; a Pushgateway is \
                 slow above 500 (set `\"grouping\": \"config\"` in the push configuration)"
            )
        };
        assert_eq!(
            told(&settings(), &groups),
            [expected(0, 501), expected(2, 510)]
        );
        let mut by_config = settings();
        by_config.grouping = Grouping::Config;
        assert!(told(&by_config, &groups).is_empty());
    }

    #[test]
    fn many_devices_of_all_groups_together_are_told_at_the_setting() {
        let groups = [group("a", 1, 250), group("b", 2, 251)];
        assert_eq!(
            told(&settings(), &groups),
            [
                "None /grouping 501 devices of all files together are pushed in a group of their own each; a Pushgateway \
                 is slow above 500 (set `\"grouping\": \"config\"` in the push configuration)"
            ]
        );
        assert!(told(&settings(), &groups[..1]).is_empty());
        // Devices of one name share a push group.
        let names = |name: &str, net: u8| {
            let devices = (1..=150).map(|n| format!("127.{net}.0.{n}"));
            devices
                .fold(builder(name), |group, ip| group.device("rack", ip))
                .device("{ip}", format!("127.9{net}.0.0-127.9{net}.1.5"))
                .build()
                .unwrap()
        };
        assert!(told(&settings(), &[names("a", 1)]).is_empty());
    }

    #[test]
    fn devices_of_two_groups_are_told_once_for_each_pair() {
        let group = |name: &str, devices: &[(&str, &str)]| {
            let devices = devices.iter();
            devices
                .fold(builder(name), |group, (name, ip)| group.device(*name, ip))
                .build()
                .unwrap()
        };
        let groups = [
            group("a", &[("x", "127.0.0.1"), ("y", "127.0.0.2")]),
            group("b", &[("y", "127.0.0.2"), ("z", "127.0.0.3")]),
            group(
                "c",
                &[("x", "127.0.0.1"), ("y", "127.0.0.2"), ("z", "127.0.0.4")],
            ),
        ];
        let hint = "(the Pushgateway shows the later result of the two; give one another name, or set \
                    `\"grouping\": \"config\"` in the push configuration)";
        assert_eq!(
            told(&settings(), &groups),
            [
                format!(
                    "Some(1) /grouping device `y` at 127.0.0.2 is also among the jobs of group \"a\" {hint}"
                ),
                format!(
                    "Some(2) /grouping 2 devices, such as `x` at 127.0.0.1, are also among the jobs of group \"a\" {hint}"
                ),
            ]
        );
        let mut by_config = settings();
        by_config.grouping = Grouping::Config;
        assert!(told(&by_config, &groups).is_empty());
    }

    #[test]
    fn a_gateway_without_external_labels_is_noted_in_any_grouping() {
        let noted = |grouping: Grouping, labels: &[(&str, &str)]| {
            let mut settings = settings();
            settings.grouping = grouping;
            let labels = labels.iter().copied().collect();
            let remarks = review(&settings, &labels, &[]);
            let severities = remarks.iter().map(|remark| remark.problem.severity);
            severities.collect::<Vec<_>>()
        };
        for grouping in [Grouping::Device, Grouping::Config] {
            assert_eq!(noted(grouping, &[]), [Severity::Note]);
            assert_eq!(noted(grouping, &[("__replica__", "a")]), [Severity::Note]);
            assert_eq!(noted(grouping, &[("site", "plant-a")]), []);
        }
    }

    #[test]
    fn a_password_that_can_be_read_on_the_way_is_told() {
        let mut exposed = settings();
        exposed.url = "http://gateway.example:9091".to_owned();
        assert!(told(&exposed, &[]).is_empty());
        exposed.username = Some("operator".to_owned());
        exposed.password = Some(Secret::new("hunter2"));
        assert_eq!(
            told(&exposed, &[]),
            [
                "None /url user and password travel over plain http, where anybody on the way can read them (use an \
                 https:// URL, or a proxy on the loopback address)"
            ]
        );
        for safe in ["http://127.0.0.1:9091", "http://localhost"] {
            exposed.url = safe.to_owned();
            assert!(told(&exposed, &[]).is_empty(), "{safe}");
        }
    }
}
