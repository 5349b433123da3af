use pe_scrape::{ABSENT, Unit};
use pe_testkit::{ReceivedWrite, WrittenMetadata};
use proptest::prelude::*;

use super::*;
use crate::remote_write::stale::STALE;
use crate::remote_write::testing::{block, metric};

const FORM: Form<'static> = Form {
    protocol: Protocol::V1,
    bytes: 1 << 20,
    with_metadata: false,
    excluded: None,
};

/// Encodes everything, and decodes it again by another implementation.
fn round_trip(parts: Vec<Part>, form: Form<'_>) -> Vec<ReceivedWrite> {
    let mut parts = VecDeque::from(parts);
    let mut encoder = Encoder::default();
    let mut requests = Vec::new();
    while let Some(batch) = encoder.next_batch(&mut parts, form) {
        let is_v2 = batch.protocol == Protocol::V2;
        let mut request = ReceivedWrite::decode(&batch.body, is_v2).unwrap();
        request.headers = vec![
            ("content-type".into(), batch.protocol.content_type().into()),
            ("content-encoding".into(), "snappy".into()),
            (
                "x-prometheus-remote-write-version".into(),
                batch.protocol.version().into(),
            ),
            ("user-agent".into(), "test".into()),
        ];
        assert_eq!(request.violations(), [""; 0]);
        assert_eq!(request.samples() as u64, batch.samples);
        requests.push(request);
    }
    assert!(parts.is_empty());
    requests
}

/// All samples: labels in one text, time, bits of the value.
fn samples(requests: &[ReceivedWrite]) -> Vec<(String, i64, u64)> {
    let series = requests.iter().flat_map(|request| &request.series);
    let samples = series.flat_map(|series| {
        let labels = series.labels.iter();
        let text: Vec<String> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let text = text.join(",");
        let samples = series.samples.iter();
        samples.map(move |(time, value)| (text.clone(), *time, value.to_bits()))
    });
    samples.collect()
}

fn both() -> [Form<'static>; 2] {
    [Protocol::V1, Protocol::V2].map(|protocol| Form { protocol, ..FORM })
}

#[test]
fn labels_of_rows_and_metrics_are_sorted_into_each_other() {
    let metrics = [
        metric("rtt", &[]),
        metric("rtt_bucket", &[("Area", "x"), ("le", "0.5")]),
    ];
    let rows = [
        &[("Zone", "1"), ("device", "a"), ("site", "n")][..],
        &[("job", "j")],
        &[],
    ];
    let block = block(
        &metrics,
        &rows,
        &[&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]],
        1_000,
    );
    for form in both() {
        let sent = samples(&round_trip(vec![Part::whole([block.clone()])], form));
        let labels: Vec<&str> = sent.iter().map(|(labels, ..)| &**labels).collect();
        assert_eq!(
            labels,
            [
                "Zone=1,__name__=rtt,device=a,site=n",
                "Area=x,Zone=1,__name__=rtt_bucket,device=a,le=0.5,site=n",
                "__name__=rtt,job=j",
                "Area=x,__name__=rtt_bucket,job=j,le=0.5",
                "__name__=rtt",
                "Area=x,__name__=rtt_bucket,le=0.5",
            ]
        );
    }
}

#[test]
fn values_and_times_arrive_bit_for_bit() {
    let values = [
        0.0,
        -0.0,
        STALE,
        f64::INFINITY,
        f64::MIN_POSITIVE,
        ABSENT,
        -1.5,
    ];
    let rows: Vec<String> = (0..values.len()).map(|row| row.to_string()).collect();
    let rows: Vec<Vec<(&str, &str)>> = rows.iter().map(|row| vec![("row", &**row)]).collect();
    let rows: Vec<&[(&str, &str)]> = rows.iter().map(|row| &**row).collect();
    for time in [0, 1, 1_700_000_000_123, -5, i64::MAX] {
        let block = block(&[metric("m", &[])], &rows, &[&values], time);
        for form in both() {
            let sent = samples(&round_trip(vec![Part::whole([block.clone()])], form));
            let sent: Vec<(i64, u64)> = sent.iter().map(|(_, time, bits)| (*time, *bits)).collect();
            let expected = values.iter().filter(|value| !is_absent(**value));
            let expected: Vec<_> = expected.map(|value| (time, value.to_bits())).collect();
            assert_eq!(sent, expected);
        }
    }
}

#[test]
fn types_help_texts_and_units_are_told() {
    let mut seconds = metric("rtt_seconds_count", &[]);
    seconds.family = "rtt_seconds".into();
    seconds.kind = "histogram";
    seconds.unit = Unit::Seconds;
    let mut sum = seconds.clone();
    sum.name = "rtt_seconds_sum".into();
    let metrics = [seconds, sum, metric("up", &[])];
    let block = block(&metrics, &[&[]], &[&[1.0], &[2.0], &[3.0]], 1);
    let parts = || vec![Part::whole([block.clone()])];
    let said = |family: &str, kind, unit: &str| WrittenMetadata {
        family: family.to_owned(),
        kind,
        help: format!(
            "Help of {}",
            family.trim_end_matches("_count").trim_end_matches("_sum")
        ),
        unit: unit.to_owned(),
    };
    assert!(round_trip(parts(), FORM)[0].metadata.is_empty());
    let form = Form {
        with_metadata: true,
        ..FORM
    };
    let mut told = round_trip(parts(), form).remove(0).metadata;
    told.iter_mut()
        .for_each(|it| it.help = it.help.replace("_count", ""));
    assert_eq!(told, [said("rtt_seconds", 3, "seconds"), said("up", 2, "")]);
    let mut told = round_trip(parts(), both()[1]).remove(0).metadata;
    told.iter_mut()
        .for_each(|it| it.help = it.help.replace("_count", ""));
    assert_eq!(
        told,
        [
            said("rtt_seconds_count", 3, "seconds"),
            said("rtt_seconds_sum", 3, "seconds"),
            said("up", 2, "")
        ]
    );
}

#[test]
fn a_request_ends_after_so_many_bytes_and_the_next_goes_on() {
    let rows: Vec<String> = (0..500).map(|row| format!("device-{row}")).collect();
    let rows: Vec<Vec<(&str, &str)>> = rows.iter().map(|row| vec![("device", &**row)]).collect();
    let rows: Vec<&[(&str, &str)]> = rows.iter().map(|row| &**row).collect();
    let values: Vec<f64> = (0..500).map(f64::from).collect();
    let metrics = [metric("a", &[]), metric("b", &[])];
    let blocks = [1, 2].map(|time| block(&metrics, &rows, &[&values, &values], time));
    let other = block(&[metric("c", &[])], &rows[..1], &[&[1.0]], 3);
    for form in both() {
        let form = Form {
            bytes: 4_000,
            ..form
        };
        let parts = vec![Part::whole(blocks.clone()), Part::whole([other.clone()])];
        let requests = round_trip(parts, form);
        assert!(requests.len() > 4, "{} requests", requests.len());
        let sent = samples(&requests);
        assert_eq!(sent.len(), 2 * 2 * 500 + 1);
        let distinct: HashSet<_> = sent.iter().collect();
        assert_eq!(distinct.len(), sent.len());
    }
}

#[test]
fn series_that_are_excluded_are_left_out() {
    let metrics = [metric("good", &[]), metric("bad", &[])];
    let block = block(&metrics, &[&[("a", "1")]], &[&[1.0], &[2.0]], 1);
    let part = Part::whole([block]);
    let (row, bad) = part.series(1);
    let excluded = Excluded::from([series_hash(row, bad)]);
    for form in both() {
        let form = Form {
            excluded: Some(&excluded),
            ..form
        };
        let sent = samples(&round_trip(vec![part.clone()], form));
        assert_eq!(sent.len(), 1);
        assert!(sent[0].0.contains("good"));
        let mut parts = VecDeque::from([part.clone()]);
        let batch = Encoder::default().next_batch(&mut parts, form).unwrap();
        assert_eq!((batch.samples, batch.excluded), (1, 1));
    }
}

#[test]
fn an_empty_request_is_one() {
    let mut encoder = Encoder::default();
    for protocol in [Protocol::V1, Protocol::V2] {
        let body = encoder.empty(protocol);
        let request = ReceivedWrite::decode(&body, protocol == Protocol::V2).unwrap();
        assert!(request.series.is_empty());
    }
}

proptest! {
    #[test]
    fn any_labels_arrive_as_they_are(
        labels in proptest::collection::btree_map("[a-zA-Z][a-z]{0,3}", "\\PC{1,9}", 1..6),
        own in proptest::collection::btree_map("[a-zA-Z][0-9]", "\\PC{1,200}", 0..3),
    ) {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (&**n, &**v)).collect();
        let own_pairs: Vec<(&str, &str)> = own.iter().map(|(n, v)| (&**n, &**v)).collect();
        let metrics = [metric("m", &own_pairs), metric("n", &[])];
        let block = block(&metrics, &[&pairs, &[]], &[&[1.0, 2.0], &[3.0, ABSENT]], 9);
        let parts = || vec![Part::whole([block.clone()])];
        let [v1, v2] = both().map(|form| round_trip(parts(), form));
        prop_assert_eq!(samples(&v1), samples(&v2));
        let mut expected: Vec<(String, String)> = labels.into_iter().chain(own).collect();
        expected.push(("__name__".to_owned(), "m".to_owned()));
        expected.sort();
        prop_assert_eq!(&v1[0].series[0].labels, &expected);
    }
}
