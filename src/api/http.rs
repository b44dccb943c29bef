//! The server API over HTTP: `POST <prefix>/<method>`, and the older `POST <prefix>` with a stream of
//! commands.
//!
//! Errors of methods come with status 200 and a JSON body, unless the caller or the configuration
//! wants them as statuses. What is wrong with the HTTP request itself is a status with a text.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method as HttpMethod, Request, Response, StatusCode};

use super::access::Access;
use super::batch::BatchRequest;
use super::json::{bare_error_json, error_json};
use super::methods::refuse_array;
use super::{Api, ApiError, Method};
use crate::config::Secret;
use crate::node::Node;
use crate::protocol::codes::ApiErrorCode;
use crate::telemetry::metrics::labels::{ApiFailure, ApiMethod, ApiProtocol};

/// Bytes: 256 publications as large as a client may send by default, or a broadcast to some
/// 300,000 channels. Callers hold the key, so this bounds mistakes rather than attacks: the memory
/// of one request with its answer, which may be ten times as long, stays in the low hundreds of
/// megabytes.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// The longest a body may take to arrive; Centrifugo's read timeout.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// With the value `transport` asks for errors as statuses.
const ERROR_MODE: HeaderName = HeaderName::from_static("x-centrifugo-error-mode");

/// The body of an answer.
type Answer = Response<Full<Bytes>>;

/// See the [module](self).
pub struct HttpApi {
    api: Api,
    access: Access,
    errors_as_status: bool,
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Method(Method),
    Batch,
    Stream,
}

/// Why an HTTP request did not get to a method.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the server API takes POST only")]
    NotPost,
    #[error(
        "the API key is missing or wrong; it goes into the header X-API-Key, or into \
         Authorization after \"apikey\""
    )]
    Unauthorized,
    #[error("there is no such method; there are {}", method_names())]
    UnknownMethod,
    #[error("the body is larger than {MAX_BODY} bytes")]
    TooLarge,
    #[error("the body did not arrive in time")]
    Late,
    #[error("the body ended early")]
    Broken,
    #[error("{0}")]
    Malformed(String),
}

impl HttpApi {
    /// The API of `node` for callers that give `key`, or with `None` for everyone. With
    /// `errors_as_status` errors of methods come as statuses even if not asked for.
    pub fn new(node: Arc<Node>, key: Option<Secret>, errors_as_status: bool) -> Self {
        let api = Api::new(node, ApiProtocol::Http);
        Self { api, access: Access::new(key), errors_as_status }
    }

    /// Answers a request to the path `method` behind the API's prefix; empty for the prefix itself.
    pub async fn handle<B>(&self, request: Request<B>, method: &str) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        match self.admit(&head, method) {
            Err(refusal) => refusal.answer(),
            Ok(endpoint) => {
                let answer = self.answer(endpoint, &head, body).await;
                answer.unwrap_or_else(|refusal| refusal.answer())
            }
        }
    }

    fn admit(&self, head: &Parts, method: &str) -> Result<Endpoint, Refusal> {
        if head.method != HttpMethod::POST {
            return Err(Refusal::NotPost);
        }
        if !self.access.admits(head) {
            return Err(Refusal::Unauthorized);
        }
        Endpoint::at(method).ok_or_else(|| {
            self.api.count_failure(ApiMethod::Unknown, ApiFailure::NotFound);
            Refusal::UnknownMethod
        })
    }

    async fn answer<B>(&self, endpoint: Endpoint, head: &Parts, body: B) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let failed = |failure| self.api.count_failure(endpoint.label(), failure);
        let body = read(body).await.inspect_err(|_| failed(ApiFailure::ReadBody))?;
        let malformed = |error: String| {
            failed(ApiFailure::Unmarshal);
            Refusal::Malformed(error)
        };
        // The futures of the larger forms are apart, lest every publish have room for them.
        match endpoint {
            Endpoint::Method(method) => {
                let request = method.read(&body).map_err(|e| malformed(not_read(&body, &e)))?;
                let outcome = self.api.call(request).await;
                Ok(match outcome.and_then(|outcome| self.api.result_json(&outcome)) {
                    Ok(text) => json(StatusCode::OK, text),
                    Err(error) => self.error(head, &error),
                })
            }
            Endpoint::Batch => {
                let batch = refuse_array(&body).and_then(|()| serde_json::from_slice(&body));
                let batch: Option<BatchRequest> =
                    batch.map_err(|e| malformed(not_read(&body, &e)))?;
                let replies = Box::pin(self.api.batch(batch.unwrap_or_default())).await;
                Ok(json(StatusCode::OK, self.api.replies_json(&replies)))
            }
            Endpoint::Stream => {
                let answers = Box::pin(self.api.answer_stream(&body)).await;
                Ok(json(StatusCode::OK, answers.map_err(|error| malformed(error.to_string()))?))
            }
        }
    }

    fn error(&self, head: &Parts, error: &ApiError) -> Answer {
        let asked = head.headers.get(ERROR_MODE);
        let asked = asked.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"transport"));
        if self.errors_as_status || asked {
            json(status(error.code), bare_error_json(error))
        } else {
            json(StatusCode::OK, error_json(error))
        }
    }
}

impl Endpoint {
    fn at(path: &str) -> Option<Self> {
        match path {
            "" => Some(Self::Stream),
            "batch" => Some(Self::Batch),
            name => Method::of_name(name).map(Self::Method),
        }
    }

    fn label(self) -> ApiMethod {
        match self {
            Self::Method(method) => method.label(),
            Self::Batch => ApiMethod::Batch,
            Self::Stream => ApiMethod::Unknown,
        }
    }
}

impl Refusal {
    fn answer(&self) -> Answer {
        let (status, header) = match self {
            Self::NotPost => (StatusCode::METHOD_NOT_ALLOWED, Some((ALLOW, "POST"))),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, Some((WWW_AUTHENTICATE, "apikey realm=\"server API\"")))
            }
            Self::UnknownMethod => (StatusCode::NOT_FOUND, None),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, None),
            Self::Broken | Self::Malformed(_) => (StatusCode::BAD_REQUEST, None),
        };
        let text = format!("{self}\n").into_bytes();
        let mut answer = with_type(status, "text/plain; charset=utf-8", text);
        if let Some((name, value)) = header {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

fn method_names() -> String {
    let names: Vec<_> = Method::TABLE.iter().map(|(_, name)| *name).collect();
    format!("{}, batch", names.join(", "))
}

/// The whole body; usually one buffer, which is then not copied.
async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // A declared length tells before a single byte is read.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Refusal::TooLarge);
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(_)) => Err(Refusal::Broken),
        Err(_) => Err(Refusal::Late),
    }
}

fn not_read(body: &[u8], error: &serde_json::Error) -> String {
    if body.trim_ascii().is_empty() {
        return "the body is empty; a request without fields is {}".to_owned();
    }
    format!("the body is not a request of this method: {error}")
}

fn status(code: ApiErrorCode) -> StatusCode {
    StatusCode::from_u16(code.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn json(status: StatusCode, text: Vec<u8>) -> Answer {
    with_type(status, "application/json", text)
}

fn with_type(status: StatusCode, content_type: &'static str, text: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests;
