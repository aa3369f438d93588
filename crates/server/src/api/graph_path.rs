//! The many spellings of a Graph path as one: version and root taken off, names in lower case, ids as segments.

use control::Surface;

use super::percent;

/// What a path says once its spelling is out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GraphPath {
    pub(super) surface: Surface,
    /// In lower case, under `/communications`, `/users` or `/me`; each segment percent-encoded.
    pub(super) path: String,
}

impl GraphPath {
    /// `None` for what is not under a version.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let surface = match segments.next()?.to_ascii_lowercase().as_str() {
            "v1.0" => Surface::V1,
            "beta" => Surface::Beta,
            _ => return None,
        };
        let mut canonical = String::with_capacity(path.len());
        for (index, segment) in segments.enumerate() {
            // Ids are GUIDs or made here: they are the same in any case (contract 1.5).
            let segment = percent::decode(segment).unwrap_or_else(|| segment.to_owned()).to_lowercase();
            // `app` is an exact alias (contract 1.4, INV-1).
            let segment = if index == 0 && segment == "app" { "communications" } else { segment.as_str() };
            let name = segment.strip_prefix("microsoft.graph.").unwrap_or(segment);
            let (name, key) = keyed(name);
            for part in [Some(name), key].into_iter().flatten() {
                canonical.push('/');
                canonical.push_str(&percent::encode(part));
            }
        }
        Some(Self { surface, path: canonical })
    }
}

/// `calls('id')` as `calls` and `id`.
fn keyed(segment: &str) -> (&str, Option<&str>) {
    let key = segment.strip_suffix("')").and_then(|rest| rest.split_once("('"));
    key.map_or((segment, None), |(name, key)| (name, Some(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        GraphPath::parse(text).unwrap().path
    }

    #[test]
    fn every_spelling_is_one_path() {
        // INV-1, Q-4, Q-5, contract 1.4 and 1.5.
        let invite = "/communications/calls/ab6233a5-20b7-4c5e-bea2-ce56c9776429/participants/invite";
        for spelling in [
            "/beta/communications/calls/ab6233a5-20b7-4c5e-bea2-ce56c9776429/participants/invite",
            "/v1.0/app/calls/AB6233A5-20b7-4c5e-bea2-ce56c9776429/participants/invite",
            "/beta/communications/calls('ab6233a5-20b7-4c5e-bea2-ce56c9776429')/participants/microsoft.graph.invite",
            "/BETA/Communications/Calls/ab6233a5%2D20b7-4c5e-bea2-ce56c9776429/Participants/Invite/",
            "/beta/app/calls(%27ab6233a5-20b7-4c5e-bea2-ce56c9776429%27)/participants/microsoft.graph.Invite",
        ] {
            assert_eq!(path(spelling), invite, "{spelling}");
        }
        assert_eq!(GraphPath::parse("/v1.0/app/calls").unwrap().surface, Surface::V1);
        assert_eq!(GraphPath::parse("/health/live"), None);
        assert_eq!(GraphPath::parse("/"), None);
    }

    #[test]
    fn a_slash_inside_an_id_stays_inside() {
        assert_eq!(path("/beta/communications/calls/a%2Fb"), "/communications/calls/a%2fb".replace("%2f", "%2F"));
    }
}
