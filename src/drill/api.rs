//! Calls to the server API, over a connection that stays open while it can.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::dial::Dial;
use super::secret::Hidden;

/// The longest for connecting, and for an answer. A gateway itself waits for Redis for
/// `engine.redis.io_timeout`, and answers then.
const PATIENCE: Duration = Duration::from_secs(6);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 1 << 20;

/// One place that answers HTTP, such as `http://127.0.0.1:8000/api` or `https://example.org/api`.
#[derive(Clone, Debug)]
pub struct Place {
    authority: String,
    host: String,
    port: u16,
    path: String,
    is_secure: bool,
}

/// A text that is no such place.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an address like http://host:port/path or https://host:port/path")]
pub struct PlaceError(String);

/// One connection to a place.
pub struct Api {
    place: Place,
    key: Option<Hidden>,
    dial: Dial,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Whether it says when to come again.
    pub retry_after: bool,
    pub body: Bytes,
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It did not get there.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been done.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The answer is an error.
    #[error("refused with {code} {message}")]
    Refused { code: u64, message: String },
}

impl Place {
    /// Reads an address.
    ///
    /// # Errors
    /// What is not an address of HTTP.
    pub fn new(address: &str) -> Result<Self, PlaceError> {
        let refused = || PlaceError(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| refused())?;
        let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(refused());
        };
        let is_secure = scheme == "https";
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { authority, host, port, path, is_secure })
    }

    /// Whether the connection needs TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Host and port to connect to.
    pub fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl Api {
    /// Nothing is connected before the first call.
    pub fn new(place: Place, key: Option<Hidden>) -> Self {
        Self { place, key, dial: Dial::default(), connection: None }
    }

    /// The same over connections that are made so.
    pub fn over(self, dial: Dial) -> Self {
        Self { dial, ..self }
    }

    /// Publishes `data`, which is JSON.
    ///
    /// # Errors
    /// Says whether the publication may have been done.
    pub async fn publish(&mut self, channel: &str, data: &Value) -> Result<Value, CallError> {
        self.call("publish", &json!({"channel": channel, "data": data})).await
    }

    /// Calls a method of the server API; its result.
    ///
    /// # Errors
    /// Says whether it may have been done.
    pub async fn call(&mut self, method: &str, params: &Value) -> Result<Value, CallError> {
        let path = format!("{}/{method}", self.place.path);
        let Answer { status, body, .. } =
            self.exchange(Method::POST, &path, params.to_string().into()).await?;
        let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 || !answer.is_object() {
            let code = u64::from(status);
            return Err(CallError::Refused { code, message: "as status of HTTP".to_owned() });
        }
        match answer.get("error") {
            Some(error) if !error.is_null() => Err(CallError::Refused {
                code: error["code"].as_u64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            }),
            _ => Ok(answer["result"].take()),
        }
    }

    /// The status of a page, such as that of a health check.
    ///
    /// # Errors
    /// Where nobody answers.
    pub async fn status(&mut self, path: &str) -> Result<u16, CallError> {
        Ok(self.answer(path).await?.status)
    }

    /// What a page answers.
    ///
    /// # Errors
    /// Where nobody answers.
    pub async fn answer(&mut self, path: &str) -> Result<Answer, CallError> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    /// The text of a page.
    ///
    /// # Errors
    /// Where nobody answers.
    pub async fn page(&mut self, path: &str) -> Result<String, CallError> {
        Ok(String::from_utf8_lossy(&self.answer(path).await?.body).into_owned())
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, CallError> {
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, &self.place.authority);
        request = request.header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header("X-API-Key", key.expose());
        }
        let request = request.body(Full::new(body)).map_err(not_sent)?;
        let mut connection = self.connected().await?;
        let answering = async {
            let answer = connection.send_request(request).await.map_err(no_answer)?;
            let status = answer.status().as_u16();
            let retry_after = answer.headers().contains_key(RETRY_AFTER);
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| CallError::NoAnswer(error.to_string()))?.to_bytes();
            Ok(Answer { status, retry_after, body })
        };
        let answered = timeout(PATIENCE, answering).await.map_err(no_answer)??;
        self.connection = Some(connection);
        Ok(answered)
    }

    /// The connection of before if it still stands; what goes wrong on it ends it.
    async fn connected(&mut self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let Place { host, port, is_secure, .. } = &self.place;
        let connecting = timeout(PATIENCE, self.dial.connect(host, *port, *is_secure));
        let stream = connecting.await.map_err(not_sent)?.map_err(not_sent)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(not_sent)?;
        tokio::spawn(connection);
        sender.ready().await.map_err(not_sent)?;
        Ok(sender)
    }
}

fn not_sent(error: impl ToString) -> CallError {
    CallError::NotSent(error.to_string())
}

fn no_answer(error: impl ToString) -> CallError {
    CallError::NoAnswer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_of_http() {
        let place = Place::new("http://[::1]:8000/api/").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("::1", 8000, "/api"));
        let place = Place::new("https://host/api").unwrap();
        assert_eq!((place.host_and_port(), place.is_secure()), (("host", 443), true));
        for text in ["ftp://host/api", "host:80", "ws://host/", ""] {
            Place::new(text).expect_err(text);
        }
    }
}
