//! Headers that travel with an object, as the storage port names them.

use std::collections::HashMap;

use object_store::{Attribute, AttributeValue, Attributes};

/// Key of the metadata by which a conditional writer knows its own object again; it is not shown as an attribute.
pub(crate) const WRITER: &str = "gristmill-writer";

/// Headers of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) metadata: Option<HashMap<String, String>>,
}

impl Headers {
    /// The writer that made the object, when it did so under a condition.
    pub(crate) fn writer(&self) -> Option<&str> {
        self.metadata.as_ref()?.get(WRITER).map(String::as_str)
    }

    /// The same headers, and who writes.
    pub(crate) fn written_by(mut self, writer: &str) -> Self {
        self.metadata.get_or_insert_default().insert(WRITER.to_owned(), writer.to_owned());
        self
    }
}

impl From<&Attributes> for Headers {
    fn from(attributes: &Attributes) -> Self {
        let mut headers = Self::default();
        for (attribute, value) in attributes {
            let value = value.as_ref().to_owned();
            match attribute {
                Attribute::CacheControl => headers.cache_control = Some(value),
                Attribute::ContentDisposition => headers.content_disposition = Some(value),
                Attribute::ContentEncoding => headers.content_encoding = Some(value),
                Attribute::ContentLanguage => headers.content_language = Some(value),
                Attribute::ContentType => headers.content_type = Some(value),
                Attribute::StorageClass => headers.storage_class = Some(value),
                Attribute::Metadata(key) => {
                    headers.metadata.get_or_insert_default().insert(key.clone().into_owned(), value);
                }
                // The port may come to know headers that this adapter does not; they are not needed to read the bytes.
                _ => {}
            }
        }
        headers
    }
}

impl From<Headers> for Attributes {
    fn from(headers: Headers) -> Self {
        let mut attributes = Self::new();
        let mut set = |attribute: Attribute, value: Option<String>| {
            if let Some(value) = value {
                attributes.insert(attribute, AttributeValue::from(value));
            }
        };
        set(Attribute::CacheControl, headers.cache_control);
        set(Attribute::ContentDisposition, headers.content_disposition);
        set(Attribute::ContentEncoding, headers.content_encoding);
        set(Attribute::ContentLanguage, headers.content_language);
        set(Attribute::ContentType, headers.content_type);
        set(Attribute::StorageClass, headers.storage_class);
        for (key, value) in headers.metadata.unwrap_or_default() {
            if key != WRITER {
                set(Attribute::Metadata(key.into()), Some(value));
            }
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_and_the_writer_is_not_one() {
        let attributes = Attributes::from_iter([
            (Attribute::CacheControl, "max-age=1"),
            (Attribute::ContentDisposition, "attachment"),
            (Attribute::ContentEncoding, "gzip"),
            (Attribute::ContentLanguage, "de"),
            (Attribute::ContentType, "text/plain"),
            (Attribute::StorageClass, "STANDARD_IA"),
            (Attribute::Metadata("key".into()), "value"),
        ]);
        let headers = Headers::from(&attributes).written_by("me");
        assert_eq!(headers.writer(), Some("me"));
        assert_eq!(Attributes::from(headers), attributes);
        assert_eq!(Attributes::from(Headers::default()), Attributes::new());
    }
}
