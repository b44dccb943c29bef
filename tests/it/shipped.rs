//! What the docs say of the settings in sentinel/ is what its files say, and they fit each other.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bobolink::config::{Disk, Loaded, Sources, load};

/// What a failover takes from the moment that the master counts as gone: vote, promotion, connecting.
const VOTE_AND_PROMOTION: Duration = Duration::from_secs(2);

#[test]
fn every_setting_that_is_recommended_stands_so_in_the_files() {
    let [master, sentinel] = ["sentinel/master.conf", "sentinel/sentinel.conf"].map(text);
    let gateway = gateway().config.to_json();
    let settings = recommended();
    assert!(settings.len() > 12, "{settings:?}");
    for (place, setting) in settings {
        let (name, value) = setting.split_once(' ').expect("a name and a value");
        let stands = match place.as_str() {
            "Redis" => master.lines().any(|line| line == setting),
            "Sentinel" => {
                let expected = format!("sentinel {name} main {value}");
                sentinel.lines().any(|line| line == expected)
            }
            "Bobolink" => gateway.pointer(&pointer(name)).is_some_and(|set| *set == *value),
            other => panic!("{other}: Redis, Sentinel or Bobolink"),
        };
        assert!(stands, "{place} is not set to {setting}");
    }
}

#[test]
fn a_failover_that_goes_well_is_no_alarm_and_one_that_is_repeated_empties_no_load_balancer() {
    let sentinel = text("sentinel/sentinel.conf");
    let span = |name: &str| {
        let start = format!("sentinel {name} main ");
        let value = sentinel.lines().find_map(|line| line.strip_prefix(&start)).expect("a line");
        Duration::from_millis(value.parse().expect("milliseconds"))
    };
    let health = gateway().config.health;
    let goes_well = span("down-after-milliseconds") + VOTE_AND_PROMOTION;
    // The last canary that was heard may be as old as that.
    assert!(goes_well + health.canary_interval <= health.canary_timeout);
    assert!(goes_well + 2 * span("failover-timeout") < health.lb_grace);
}

#[test]
fn gateways_with_these_settings_know_when_they_are_cut_off_alone() {
    let notices = gateway().notices;
    assert!(notices.iter().all(|notice| !notice.text.contains("canary")), "{notices:?}");
}

/// What the table of recommended settings names, and where that is to be set.
fn recommended() -> Vec<(String, String)> {
    let docs = text("docs/failover.md");
    let section = docs.split("\n## ").find(|part| part.starts_with("Sentinel: recommended"));
    let rows = section.expect("the section").lines().filter(|line| line.starts_with("| "));
    let mut settings = Vec::new();
    for row in rows.skip(1) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        // What stands between every other two signs.
        for setting in cells[2].split('`').skip(1).step_by(2) {
            settings.push((cells[1].to_owned(), setting.to_owned()));
        }
    }
    settings
}

fn gateway() -> Loaded {
    let path = path("sentinel/gateway.toml");
    // What docker-compose.yml adds.
    let flags = [("http_server.trusted_proxies", "127.0.0.1/32")];
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let sources = Sources { file: Some(path), flags, ..Sources::default() };
    load(&sources, &Disk).expect("it can be used")
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('.', "/"))
}

fn text(file: &str) -> String {
    fs::read_to_string(path(file)).expect("a file")
}

fn path(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file).display().to_string()
}
