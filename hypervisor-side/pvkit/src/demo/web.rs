//! The demo's client: asks the guest's web server as any program on this machine could, with limits on time and size.

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::Agent;

/// Most bytes of an answer that is a text.
const MAX_TEXT: u64 = 1 << 20;

/// A client of one guest.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    base: String,
}

/// Why the guest's answer is none.
#[derive(Debug)]
pub enum WebError {
    /// There is no answer, or none that is HTTP; or it says no.
    Http { path: String, cause: Box<ureq::Error> },
    /// The answer broke off.
    Broken { path: String, cause: std::io::Error },
    /// The answer is longer than anything that was asked for.
    TooLong { path: String, limit: u64 },
    /// The answer is not what the question asks for.
    Strange { path: String, answer: String },
}

impl fmt::Display for WebError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { path, .. } => write!(f, "the guest's web server does not answer {path} as it should"),
            Self::Broken { path, .. } => write!(f, "the guest's answer to {path} broke off"),
            Self::TooLong { path, limit } => write!(f, "the guest's answer to {path} is longer than {limit} bytes"),
            Self::Strange { path, answer } => write!(f, "the guest answers {path} with {answer:?}"),
        }
    }
}

impl std::error::Error for WebError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Http { cause, .. } => Some(cause),
            Self::Broken { cause, .. } => Some(cause),
            Self::TooLong { .. } | Self::Strange { .. } => None,
        }
    }
}

impl Client {
    /// A client of the server at `host` that gives up on an answer after `patience`.
    #[must_use]
    pub fn new(host: SocketAddr, patience: Duration) -> Self {
        let config = Agent::config_builder().timeout_global(Some(patience)).proxy(None).build();
        Self { agent: config.into(), base: format!("http://{host}") }
    }

    /// Where people find the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/", self.base)
    }

    /// The bytes at `path`, which begins with a slash and is not encoded; at most `limit`.
    ///
    /// # Errors
    /// As [`WebError`] says.
    pub fn get(&self, path: &str, limit: u64) -> Result<Vec<u8>, WebError> {
        let answer = self.agent.get(self.address(path)).call();
        body(path, answer.map_err(|cause| http(path, cause))?, limit)
    }

    /// The text at `path`, without what surrounds it.
    ///
    /// # Errors
    /// As [`WebError`] says.
    pub fn text(&self, path: &str) -> Result<String, WebError> {
        self.get(path, MAX_TEXT).map(|bytes| trimmed(&bytes))
    }

    /// Sends `text` to `path`; the answer's text.
    ///
    /// # Errors
    /// As [`WebError`] says.
    pub fn post(&self, path: &str, text: &str) -> Result<String, WebError> {
        let answer = self.agent.post(self.address(path)).content_type("text/plain").send(text);
        body(path, answer.map_err(|cause| http(path, cause))?, MAX_TEXT).map(|bytes| trimmed(&bytes))
    }

    fn address(&self, path: &str) -> String {
        format!("{}{}", self.base, encode(path))
    }
}

fn http(path: &str, cause: ureq::Error) -> WebError {
    WebError::Http { path: path.into(), cause: Box::new(cause) }
}

fn body(path: &str, answer: ureq::http::Response<ureq::Body>, limit: u64) -> Result<Vec<u8>, WebError> {
    let mut bytes = Vec::new();
    let read = answer.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|cause| WebError::Broken { path: path.into(), cause })?;
    if bytes.len() as u64 > limit {
        return Err(WebError::TooLong { path: path.into(), limit });
    }
    Ok(bytes)
}

fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// A path as it stands in an address (RFC 3986, 2.3 and 3.3).
fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// A server that gives one client `answer`, whatever it asks; what it asked.
    fn server(answer: Vec<u8>) -> (Client, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(listener.local_addr().unwrap(), Duration::from_secs(20));
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (client, asked)
    }

    #[test]
    fn paths_are_encoded_and_answers_limited() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        let (client, asked) = server(answer.to_vec());
        assert_eq!(client.get("/a b/\u{e4}%.md", 5).unwrap(), b"hello");
        assert!(asked.join().unwrap().starts_with("GET /a%20b/%C3%A4%25.md HTTP/1.1\r\n"));
        let (client, asked) = server(answer.to_vec());
        assert!(matches!(client.get("/", 4), Err(WebError::TooLong { limit: 4, .. })));
        asked.join().unwrap();
    }

    #[test]
    fn answers_that_are_none_are_errors() {
        for (answer, what) in [
            (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..], "as it should"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nhello", "broke off"),
            (b"hello", "as it should"),
            (b"", "as it should"),
        ] {
            let (client, asked) = server(answer.to_vec());
            let error = client.get("/x", 100).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("/x"), "{error}");
            asked.join().unwrap();
        }
    }
}
