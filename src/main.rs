use std::collections::BTreeMap;
use std::sync::Arc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dev = args.iter().any(|a| a == "--dev");
    let file = args.iter().position(|a| a == "-c").map(|i| args[i + 1].clone());
    let sources = bobolink::config::Sources::of_process(file, BTreeMap::new());
    let loaded = bobolink::config::load(&sources, &bobolink::config::Disk).expect("config");
    let _ = bobolink::telemetry::logging::init(&bobolink::telemetry::logging::Settings::default());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        bobolink::server::run(loaded.config, Arc::new(|| Err("no".into())), dev).await.unwrap()
    });
}
