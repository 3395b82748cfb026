//! Who may ask for `/functions`: who brings the token; without one, who asks this machine by a loopback name. Who gives
//! an order must not be a web page either, whatever it brings.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::{AdminError, TOKEN_SETTING};

/// A bearer token, kept as its SHA-256 only: the secret itself is in no log or core dump, and comparing
/// digests takes the same time whatever is wrong with a guess.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token `secret`; surrounding white space, such as a file's last line feed, does not count.
    pub fn new(secret: &str) -> Result<Self, AdminError> {
        match secret.trim() {
            "" => Err(AdminError::EmptyToken),
            secret => Ok(Self(Sha256::digest(secret).into())),
        }
    }

    /// The request brings this token.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let (scheme, given) = given.split_at_checked("bearer ".len()).unwrap_or_default();
        let guess: [u8; 32] = Sha256::digest(given.trim_ascii()).into();
        let differences = guess.iter().zip(&self.0).fold(0, |all, (a, b)| all | (a ^ b));
        scheme.eq_ignore_ascii_case(b"bearer ") && std::hint::black_box(differences) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets a request through or answers in its place.
pub(super) async fn guard(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    match token {
        _ if is_order_of_a_page(request.method(), request.headers()) => {
            (StatusCode::FORBIDDEN, "orders are not taken from web pages\n").into_response()
        }
        Some(token) if !token.admits(request.headers()) => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            format!("send `Authorization: Bearer` with the secret of `{TOKEN_SETTING}`\n"),
        )
            .into_response(),
        None if !names_loopback(request.headers()) => (
            StatusCode::FORBIDDEN,
            format!("ask for localhost or 127.0.0.1, or set `{TOKEN_SETTING}` and bring it\n"),
        )
            .into_response(),
        _ => next.run(request).await,
    }
}

/// Browsers name the page in `Origin` with every request that may change something; no other client does.
fn is_order_of_a_page(method: &Method, headers: &HeaderMap) -> bool {
    !method.is_safe() && headers.contains_key(header::ORIGIN)
}

/// The request's `Host` is this machine by a name that no DNS server can give to somebody else.
fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn with(name: HeaderName, value: Option<&str>) -> HeaderMap {
        value.map(|value| (name, HeaderValue::from_str(value).unwrap())).into_iter().collect()
    }

    #[test]
    fn a_token_is_wanted_exactly() {
        let token = Token::new("open sesame\n").unwrap();
        let cases = [
            (None, false),
            (Some("Bearer open sesame"), true),
            (Some("bEARER   open sesame"), true),
            (Some("Bearer open sesam"), false),
            (Some("Bearer open sesame!"), false),
            (Some("Bearer "), false),
            (Some("Bearer"), false),
            (Some("Basic open sesame"), false),
            (Some("open sesame"), false),
        ];
        for (given, expected) in cases {
            assert_eq!(token.admits(&with(header::AUTHORIZATION, given)), expected, "{given:?}");
        }
    }

    #[test]
    fn only_loopback_names_are_loopback() {
        let cases = [
            (Some("localhost"), true),
            (Some("LOCALHOST:8080"), true),
            (Some("127.0.0.1:8080"), true),
            (Some("[::1]:8080"), true),
            (Some("[::1]"), true),
            (Some("rebound.example:8080"), false),
            (Some("localhost.example"), false),
            (Some("10.0.0.1"), false),
            (Some(""), false),
            (None, false),
        ];
        for (host, expected) in cases {
            assert_eq!(names_loopback(&with(header::HOST, host)), expected, "{host:?}");
        }
    }

    #[test]
    fn a_page_may_look_but_gives_no_orders() {
        let page = with(header::ORIGIN, Some("http://localhost:8080"));
        assert!(is_order_of_a_page(&Method::POST, &page));
        assert!(!is_order_of_a_page(&Method::GET, &page));
        assert!(!is_order_of_a_page(&Method::POST, &HeaderMap::new()));
    }

    #[test]
    fn an_empty_token_is_refused_and_a_token_is_not_printed() {
        assert!(matches!(Token::new(" \n"), Err(AdminError::EmptyToken)));
        assert_eq!(format!("{:?}", Token::new("secret").unwrap()), "Token(…)");
    }
}
