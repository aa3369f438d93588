//! What identity libraries read before they ask for a token or trust one: OpenID documents and key sets.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use control::TenantId;
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use store::Purpose;

use super::token::shortened;
use crate::api::exchange::Exchange;
use crate::api::percent;
use crate::api::service::Service;

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`, and without `v2.0` (contract 2.1).
pub(crate) async fn configuration(
    State(service): State<Service>,
    Path(tenant): Path<String>,
    Extension(exchange): Extension<Exchange>,
) -> Response {
    let directory = service.directory();
    let anywhere = ["common", "organizations"].contains(&tenant.as_str());
    let by_id = tenant.parse::<TenantId>().ok().and_then(|id| directory.tenant(id));
    let known = by_id.or_else(|| directory.tenant_by_domain(&tenant));
    if !anywhere && known.is_none() {
        let description = format!("AADSTS90002: Tenant '{}' not found.", shortened(&tenant));
        let body = json!({"error": "invalid_tenant", "error_description": description, "error_codes": [90002]});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    // Libraries take the tenant from the path of `token_endpoint`, and want the issuer on the authority's own host.
    let segment = known.map_or(tenant.clone(), |tenant| tenant.id.to_string());
    let (base, host) = (&exchange.base, exchange.host());
    Json(json!({
        "issuer": format!("{base}/{segment}/v2.0"),
        "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
        "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "response_types_supported": ["code", "id_token", "token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "tenant_region_scope": null,
        "cloud_instance_name": host,
        "msgraph_host": host,
    }))
    .into_response()
}

/// `GET /{tenant}/discovery/v2.0/keys`: the keys of access tokens.
pub(crate) async fn access_keys(State(service): State<Service>) -> Json<Value> {
    Json(service.keys.published(Purpose::Access))
}

/// `GET /common/discovery/instance`: says that the authority asked about is known, which for a server of its own it is.
pub(crate) async fn instance(Extension(exchange): Extension<Exchange>, uri: Uri) -> Json<Value> {
    let asked = uri.query().into_iter().flat_map(|query| query.split('&'));
    let asked = asked.filter_map(|pair| pair.strip_prefix("authorization_endpoint=")).find_map(percent::decode);
    let tenant = asked
        .as_deref()
        .and_then(|url| url.split_once("://")?.1.split('/').nth(1))
        .filter(|tenant| !tenant.is_empty())
        .unwrap_or("common");
    let (base, host) = (&exchange.base, exchange.host());
    Json(json!({
        "tenant_discovery_endpoint": format!("{base}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }))
}

/// `GET /v1/.well-known/OpenIdConfiguration`: how bots check our notifications (contract 2.6).
pub(crate) async fn notification_configuration(
    State(service): State<Service>,
    Extension(exchange): Extension<Exchange>,
) -> Json<Value> {
    Json(json!({
        "issuer": service.settings.notification_issuer,
        "authorization_endpoint": "https://invalid.example",
        "jwks_uri": format!("{}/v1/keys", exchange.base),
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    }))
}

/// `GET /v1/keys`: the keys of notification tokens.
pub(crate) async fn notification_keys(State(service): State<Service>) -> Json<Value> {
    Json(service.keys.published(Purpose::Notification))
}
