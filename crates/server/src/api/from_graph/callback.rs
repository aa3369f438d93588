//! Where notifications may go: a host that the operator has allowed the application, and https.

use http::Uri;
use store::App;

use super::bad;
use crate::api::Settings;
use crate::api::error::ApiError;

/// Longer ones are refused: they are kept with every notice.
const LENGTH_MAX: usize = 2048;

/// A `callbackUri` as the client wrote it, checked: notifications go to it byte for byte.
pub(super) fn callback(given: Option<String>, app: &App, settings: &Settings) -> Result<String, ApiError> {
    const PATH: &str = "callbackUri";
    let text = given.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| bad(PATH, "is required"))?;
    if text.len() > LENGTH_MAX {
        return Err(bad(PATH, "is longer than 2048 characters"));
    }
    let uri: Uri = text.parse().map_err(|_| bad(PATH, "is not an absolute URI"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(bad(PATH, "is not an absolute URI"));
    };
    if authority.as_str().contains('@') {
        return Err(bad(PATH, "must not hold credentials"));
    }
    let plain = scheme.eq_ignore_ascii_case("http");
    let dev_loopback = plain && settings.dev && is_loopback(authority.host());
    if !scheme.eq_ignore_ascii_case("https") && !dev_loopback {
        return Err(bad(PATH, "must be https"));
    }
    let standard = if plain { 80 } else { 443 };
    let target = (authority.host(), authority.port_u16().unwrap_or(standard));
    if !allowed(app).iter().any(|host| matches(host, target, standard)) {
        return Err(bad(
            PATH,
            format!("{authority} is not among the application's callback_hosts; add it in the directory"),
        ));
    }
    Ok(text)
}

/// What the operator has listed; without a list, the host of the application's own callback.
fn allowed(app: &App) -> Vec<String> {
    if !app.callback_hosts.is_empty() {
        return app.callback_hosts.clone();
    }
    let own = app.callback.as_deref().and_then(|callback| callback.parse::<Uri>().ok());
    let Some(uri) = own else { return Vec::new() };
    let Some(authority) = uri.authority() else { return Vec::new() };
    let standard = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    vec![format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(standard))]
}

/// `host` alone allows the scheme's own port, `host:port` that port.
fn matches(entry: &str, (host, port): (&str, u16), standard: u16) -> bool {
    let (allowed, allowed_port) = match entry.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, port),
        _ => (entry, standard),
    };
    allowed.eq_ignore_ascii_case(host) && allowed_port == port
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use control::{AppId, TenantId};
    use uuid::Uuid;

    use super::*;

    fn app(callback: Option<&str>, hosts: &[&str]) -> App {
        App {
            id: AppId(Uuid::nil()),
            tenant: TenantId(Uuid::nil()),
            name: String::new(),
            secret_hash: None,
            roles: Vec::new(),
            callback: callback.map(str::to_owned),
            callback_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            number: None,
            instance: AppId(Uuid::nil()),
            may_remove_participants: false,
        }
    }

    fn check(uri: &str, app: &App, dev: bool) -> Result<String, String> {
        let settings = Settings { dev, ..Settings::default() };
        callback(Some(uri.to_owned()), app, &settings).map_err(|error| error.to_string())
    }

    #[test]
    fn a_callback_is_https_and_within_the_allowed_hosts() {
        let listed = app(Some("https://elsewhere.example/x"), &["bot.example", "localhost:9443"]);
        // verbatim, upper-case host and query string included.
        let exact = "https://BOT.example/api/calls?webInstanceId=local";
        assert_eq!(check(exact, &listed, false).as_deref(), Ok(exact));
        assert!(check("https://localhost:9443/", &listed, false).is_ok());
        for refused in [
            "https://bot.example:444/",
            "https://elsewhere.example/x",
            "http://bot.example/",
            "https://bot.example@evil.example/",
            "https://evil.example/?bot.example",
            "ftp://bot.example/",
            "/api/calls",
            "",
        ] {
            assert!(check(refused, &listed, true).is_err(), "{refused}");
        }
        let own = app(Some("https://own.example:8443/x"), &[]);
        assert!(check("https://own.example:8443/y", &own, false).is_ok());
        assert!(check("https://own.example/y", &own, false).is_err());
    }

    #[test]
    fn plain_http_goes_to_loopback_only_and_only_in_development() {
        let local = app(Some("http://127.0.0.1:9000/x"), &[]);
        assert!(check("http://127.0.0.1:9000/y", &local, true).is_ok());
        assert!(check("http://127.0.0.1:9000/y", &local, false).is_err());
        let far = app(None, &["bot.example:80"]);
        assert!(check("http://bot.example/", &far, true).is_err());
    }
}
