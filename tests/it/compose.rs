//! docker-compose.yml and the local topology of `bobolink drill` are the same cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use bobolink::drill::secret::Hidden;
use bobolink::drill::topology::archive::ArchivePlan;
use bobolink::drill::topology::plan::{
    Addresses, BalancerAddresses, GatewayAddresses, Plan, Secrets,
};
use bobolink::drill::topology::process::Recipe;
use serde_json::Value;

/// Services of which a drill knows nothing: they only look.
const WITHOUT_TWIN: &[&str] = &["prometheus", "grafana"];
/// Services that one local process stands for, and the service that makes them one set.
const IN_ONE_PROCESS: &[&str] = &["mongo-1", "mongo-2", "mongo-3", "mongo-init"];
/// That process.
const THE_PROCESS: &str = "mongo";
/// Services that end when they are done.
const JOBS: &[&str] = &["mongo-init"];
/// What only local processes need: they share one machine with everybody else.
const LOCAL_ONLY: &[&str] = &["BIND"];
/// Local arguments behind those of the service: drills do not wait as long as a busy cluster should.
const LOCAL_ARGS: &[&str] = &["--sentinel", "down-after-milliseconds", "main", "1000"];

#[test]
fn each_service_has_its_twin_among_the_local_processes() {
    let services = services();
    let watched = services.keys().map(String::as_str);
    let watched = watched.filter(|name| !WITHOUT_TWIN.contains(name));
    let watched = watched.filter(|name| !IN_ONE_PROCESS.contains(name));
    let twins = recipes();
    let names: BTreeSet<_> = twins.iter().map(|twin| twin.name.as_str()).collect();
    assert_eq!(watched.collect::<BTreeSet<_>>(), names);
    for twin in &twins {
        let service = &services[&twin.name];
        let given = service["environment"].as_object().expect("a map of variables").keys();
        let given: BTreeSet<_> = given.map(String::as_str).collect();
        let local = twin.environment.iter().map(|(name, _)| *name);
        let local: BTreeSet<_> = local.filter(|name| !LOCAL_ONLY.contains(name)).collect();
        assert_eq!(given, local, "the variables of {}", twin.name);
        assert_eq!(command_of(service), command_of_twin(twin), "the command of {}", twin.name);
    }
}

#[test]
fn twins_are_started_from_the_same_files() {
    let services = services();
    for twin in recipes() {
        let service = &services[&twin.name];
        let volumes: Vec<_> = service["volumes"].as_array().expect("volumes").iter().collect();
        let files: Vec<_> = volumes
            .iter()
            .filter_map(|volume| volume.as_str()?.strip_prefix("./")?.split(':').next())
            .collect();
        let [file] = files.as_slice() else { panic!("{}: one mounted path: {files:?}", twin.name) };
        let used = match twin.name.split('-').next() {
            Some("redis" | "sentinel") => "sentinel",
            Some("gateway" | "history") => "sentinel/gateway.toml",
            _ => "haproxy/haproxy.cfg",
        };
        assert_eq!(*file, used, "{}", twin.name);
        assert!(volumes.iter().all(|volume| {
            !volume.as_str().expect("text").starts_with("./")
                || volume.as_str().expect("text").ends_with(":ro")
        }));
    }
}

#[test]
fn mounted_paths_are_there() {
    for (name, service) in services() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let text = volume.as_str().expect("text");
            if let Some(path) = text.strip_prefix("./").and_then(|text| text.split(':').next()) {
                assert!(root().join(path).exists(), "{name} mounts {path}");
            }
        }
    }
}

#[test]
fn all_services_come_back_and_tell_whether_they_are_well() {
    for (name, service) in services() {
        if JOBS.contains(&name.as_str()) {
            assert_eq!(service["restart"], "on-failure", "{name}");
            continue;
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
    }
}

#[test]
fn the_replica_set_is_the_one_that_everybody_is_told_of() {
    let services = services();
    let uri = |name: &str| services[name]["environment"]["BOBOLINK_HISTORY_MONGO_URI"].clone();
    let told = uri("gateway-1");
    for name in ["gateway-2", "history-1", "history-2"] {
        assert_eq!(uri(name), told, "{name}");
    }
    let told = told.as_str().expect("text");
    let hosts = told.trim_start_matches("mongodb://").split_once("/?replicaSet=");
    let (hosts, set) = hosts.expect("hosts and a set");
    let script = services["mongo-init"]["command"].to_string();
    assert!(script.contains(&format!("_id: \\\"{set}\\\"")), "{script}");
    assert_eq!(hosts.split(',').count(), 3);
    for host in hosts.split(',').filter_map(|host| host.strip_suffix(":27017")) {
        let command = services[host]["command"].as_array().expect("a command");
        let place = command.iter().position(|word| word == "--replSet").expect("--replSet");
        assert_eq!(command[place + 1], set, "{host}");
    }
    assert!(IN_ONE_PROCESS.iter().all(|name| services.contains_key(*name)));
}

#[test]
fn no_secret_is_in_the_file() {
    let is_secret =
        |name: &str| ["PASSWORD", "SECRET", "API_KEY"].iter().any(|word| name.contains(word));
    let mut found = 0;
    for (name, service) in services() {
        let variables = service["environment"].as_object().into_iter().flatten();
        for (variable, value) in variables.filter(|(variable, _)| is_secret(variable)) {
            let value = value.as_str().expect("text");
            assert!(value.starts_with("${") && value.contains(":?"), "{name}: {variable}={value}");
            found += 1;
        }
    }
    assert!(found > 10, "{found} secrets");
    let example = fs::read_to_string(root().join(".env.example")).expect(".env.example");
    let text = fs::read_to_string(root().join("docker-compose.yml")).expect("the file");
    for line in example.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once('=').expect("NAME=value");
        assert!(text.contains(&format!("${{{name}:?")), "{name} is not asked for");
        assert_eq!(value, "replace-me", "{name}");
    }
}

#[test]
fn docker_compose_understands_the_file() {
    let mut command = Command::new("docker-compose");
    command.args(["--env-file", ".env.example", "config", "--quiet"]).current_dir(root());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("docker-compose: {error}; run scripts/setup compose"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_file_that_the_program_carries_is_in_the_image_of_its_build() {
    let files = fs::read_to_string(root().join("src/drill/topology/files.rs")).expect("the file");
    let carried: Vec<_> = files
        .lines()
        .filter_map(|line| line.split_once("include_str!(\"../../../")?.1.split('"').next())
        .collect();
    assert!(carried.len() >= 5, "{carried:?}");
    let sent = fs::read_to_string(root().join(".dockerignore")).expect(".dockerignore");
    for file in carried {
        let folder = file.split('/').next().expect("a folder");
        let is_sent = |line: &str| line == format!("!{file}") || line == format!("!{folder}");
        assert!(sent.lines().any(is_sent), ".dockerignore leaves {file} out");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn services() -> BTreeMap<String, Value> {
    let text = fs::read_to_string(root().join("docker-compose.yml")).expect("the file");
    let mut file: Value = serde_saphyr::from_str(&text).expect("YAML");
    serde_json::from_value(file["services"].take()).expect("services")
}

/// The command of a service, without the paths of its container.
fn command_of(service: &Value) -> Vec<String> {
    let words = service["command"].as_array().expect("a command as a list").iter();
    words.map(|word| file_name(word.as_str().expect("text"))).collect()
}

fn command_of_twin(twin: &Recipe) -> Vec<String> {
    let mut words = Vec::new();
    // The image of the gateway names its program itself.
    if !matches!(twin.name.split('-').next(), Some("gateway" | "history")) {
        words.push(file_name(&twin.program.display().to_string()));
    }
    words.extend(twin.args.iter().map(|word| file_name(word)));
    // The image has its configuration under the name that is looked for.
    words.iter_mut().filter(|word| *word == "gateway.toml").for_each(|word| {
        *word = "config.toml".to_owned();
    });
    let without = words.len().saturating_sub(LOCAL_ARGS.len());
    if words[without..] == *LOCAL_ARGS {
        words.truncate(without);
    }
    words
}

fn file_name(word: &str) -> String {
    word.rsplit('/').next().unwrap_or(word).to_owned()
}

fn recipes() -> Vec<Recipe> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let secret = || Hidden::from("secret".to_owned());
    let redis = vec![at(1), at(2), at(3)];
    let gateway =
        |port| GatewayAddresses { clients: at(port), internal: at(port + 1), agent: at(port + 2) };
    let plan = Plan {
        addresses: Addresses {
            announced: redis.clone(),
            redis,
            buses: Vec::new(),
            sentinels: vec![at(4), at(5), at(6)],
            gateways: vec![gateway(10), gateway(20)],
            balancer: Some(BalancerAddresses { clients: at(30), api: at(31), stats: at(32) }),
        },
        secrets: Secrets { redis: secret(), sentinel: secret(), token: secret(), api: secret() },
        folder: "topology".into(),
        gateway: "bobolink".into(),
        redis_options: Vec::new(),
        archive: Some(ArchivePlan {
            program: "replica_set".into(),
            members: [at(40), at(41), at(42)],
            control: at(43),
            services: vec![at(44), at(45)],
            backlog: None,
        }),
    };
    let mut recipes = plan.recipes();
    recipes.retain(|recipe| recipe.name != THE_PROCESS);
    recipes
}
