//! Requests over HTTP, each on a connection of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::SOON;

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

/// Gets a path.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    http(address, Method::GET, path, &[], "").await
}

/// Sends a request; panics unless the answer comes soon.
pub async fn http(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let (answer, bytes) = exchange(address, method, path, headers, body).await;
    Answer { body: String::from_utf8(bytes).expect("text"), ..answer }
}

/// Sends a request without a body; what comes back need not be text, so it stands beside the answer.
pub async fn http_bytes(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (Answer, Vec<u8>) {
    exchange(address, method, path, headers, "").await
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (Answer, Vec<u8>) {
    let mut request =
        Request::builder().method(method).uri(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    let request = request.expect("a request");
    let exchange = async {
        let stream = TcpStream::connect(address).await.expect("the port is open");
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let status = head.status.as_u16();
        (Answer { status, headers: head.headers, body: String::new() }, body.to_vec())
    };
    tokio::time::timeout(SOON, exchange).await.unwrap_or_else(|_| panic!("no answer for {path}"))
}
