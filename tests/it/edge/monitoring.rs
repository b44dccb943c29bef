//! What Prometheus and Grafana are given: whether every metric in it exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bobolink::telemetry::metrics::Metrics;
use serde_json::Value;

use super::balancer::{Balancer, NodePorts};
use crate::support::get;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(name)
}

fn yaml(name: &str) -> Value {
    let text = fs::read_to_string(path(name)).expect(name);
    serde_saphyr::from_str(&text).expect(name)
}

fn dashboard() -> Value {
    let text = fs::read_to_string(path("grafana/dashboards/bobolink.json")).expect("dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// Every text that stands at `key`, at whatever depth.
fn texts_at(key: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| texts_at(key, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| texts_at(key, value, found)),
        _ => {}
    }
}

/// What the dashboard and the alarms ask Prometheus.
fn expressions() -> Vec<String> {
    let mut found = Vec::new();
    texts_at("expr", &dashboard(), &mut found);
    texts_at("query", &dashboard()["templating"], &mut found);
    texts_at("expr", &yaml("alerts.yml"), &mut found);
    assert!(found.len() > 30, "{found:?}");
    found
}

/// Names of metrics in the expressions that begin with `prefix`.
fn names(prefix: &str) -> BTreeSet<String> {
    let expressions = expressions();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expressions.iter().flat_map(|text| text.split(|c| !is_part(c)));
    words.filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

#[test]
fn every_metric_of_ours_in_the_dashboard_and_the_alarms_exists() {
    let metrics = Metrics::default();
    let exposed = String::from_utf8(metrics.render().to_vec()).expect("text");
    let exists = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .any(|family| metrics.names().iter().any(|known| known == family));
        of_histogram
            || metrics.names().iter().any(|known| known == name)
            || exposed.contains(&format!("# TYPE {name} "))
    };
    let used = &names("bobolink_") | &names("process_");
    assert!(used.len() > 20, "{used:?}");
    let missing: Vec<_> = used.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "there are no {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_haproxy_in_the_dashboard_and_the_alarms_exists() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let balancer = Balancer::start(&nodes, &[]).await;
    let exposed = get(balancer.stats(), "/metrics").await.body;
    let used = names("haproxy_");
    assert!(used.len() > 5, "{used:?}");
    let exists = |name: &&String| exposed.contains(&format!("# TYPE {name} "));
    let missing: Vec<_> = used.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "HAProxy has no {missing:?}");
    for proxy in ["clients", "gateways"] {
        assert!(exposed.contains(&format!("proxy=\"{proxy}\"")), "{proxy}");
    }
}

#[test]
fn panels_can_be_told_apart_and_each_says_what_it_shows() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "prometheus", "{panel}");
    }
}

#[test]
fn prometheus_and_grafana_find_their_files() {
    let prometheus = yaml("prometheus.yml");
    for file in prometheus["rule_files"].as_array().expect("rules") {
        assert!(path(file.as_str().expect("a name")).exists(), "{file}");
    }
    let jobs: Vec<_> = prometheus["scrape_configs"].as_array().expect("jobs").iter().collect();
    let job_names: Vec<_> = jobs.iter().filter_map(|job| job["job_name"].as_str()).collect();
    assert_eq!(job_names, ["bobolink", "haproxy", "history"]);
    for name in job_names {
        let targets = yaml(&format!("targets/{name}.yml"));
        assert!(targets[0]["targets"].as_array().is_some_and(|targets| !targets.is_empty()));
    }
    let source = yaml("grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["uid"], "prometheus");
    let provider = yaml("grafana/provisioning/dashboards/bobolink.yml");
    assert_eq!(provider["providers"][0]["options"]["path"], "/etc/grafana/dashboards");
}
