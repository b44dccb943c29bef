//! stub
use crate::config::Secret;
use crate::node::Node;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::sync::Arc;
pub struct HttpApi;
impl HttpApi {
    pub fn new(_n: Arc<Node>, _k: Option<Secret>, _b: bool) -> Self {
        Self
    }
    pub async fn handle(&self, _r: Request<Incoming>, _m: &str) -> Response<Full<Bytes>> {
        Response::new(Full::default())
    }
}
