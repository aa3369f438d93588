//! Who handles the application's media, and what is to be fetched for it beforehand.

use serde_json::Value;

use crate::wire::{Bad, Form, Object, Wire, Writer, wire};

wire! {
    MediaInfo = "mediaInfo" {
        resource_id: String = "resourceId",
        uri: String = "uri",
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaConfig {
    ServiceHosted { pre_fetch_media: Option<Vec<MediaInfo>>, remove_from_default_audio_group: Option<bool> },
    AppHosted { blob: Option<String>, remove_from_default_audio_group: Option<bool> },
}

impl Wire for MediaConfig {
    /// Without a type, a blob makes it app-hosted (contract 4).
    fn read(value: &Value) -> Result<Self, Bad> {
        let object = Object::of(value)?;
        let remove_from_default_audio_group = object.read("removeFromDefaultAudioGroup")?;
        let app_hosted = match object.odata_type()?.as_str() {
            "apphostedmediaconfig" => true,
            "servicehostedmediaconfig" => false,
            "" | "mediaconfig" => object.member("blob").is_some(),
            other => {
                return Err(Bad::at("@odata.type", format!("'{other}' is no media configuration")));
            }
        };
        Ok(if app_hosted {
            Self::AppHosted { blob: object.read("blob")?, remove_from_default_audio_group }
        } else {
            Self::ServiceHosted { pre_fetch_media: object.read("preFetchMedia")?, remove_from_default_audio_group }
        })
    }

    fn write(&self, form: Form) -> Value {
        match self {
            Self::ServiceHosted { pre_fetch_media, remove_from_default_audio_group } => {
                let mut object = Writer::new("#microsoft.graph.serviceHostedMediaConfig", form);
                object.put("removeFromDefaultAudioGroup", remove_from_default_audio_group.as_ref(), true);
                object.put("liveCaptionOptions", None::<&String>, true);
                object.put("preFetchMedia", pre_fetch_media.as_ref(), false);
                object.done()
            }
            Self::AppHosted { blob, remove_from_default_audio_group } => {
                let mut object = Writer::new("#microsoft.graph.appHostedMediaConfig", form);
                object.put("removeFromDefaultAudioGroup", remove_from_default_audio_group.as_ref(), true);
                object.put("blob", blob.as_ref(), false);
                object.done()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_that_is_not_named_follows_from_the_members() {
        // `preFetchMedia` may be null.
        let service = MediaConfig::read(&json!({"preFetchMedia": null})).unwrap();
        assert!(matches!(service, MediaConfig::ServiceHosted { pre_fetch_media: None, .. }));
        let app = MediaConfig::read(&json!({"blob": "b"})).unwrap();
        assert!(matches!(app, MediaConfig::AppHosted { .. }));
        let cast = MediaConfig::read(&json!({"@odata.type": "graph.AppHostedMediaConfig"})).unwrap();
        assert!(matches!(cast, MediaConfig::AppHosted { blob: None, .. }));
    }
}
