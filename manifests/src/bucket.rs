//! Places in S3: what `s3://bucket/prefix` means, large objects in parts, and what a failure there asks of the person.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{Attributes, MultipartUpload, ObjectStore, PutMultipartOptions};
use s3::S3Store;
use schemas::exit::ErrorKind;

use crate::Error;

/// Bytes of a part of an object that is sent in parts.
pub(crate) const PART: usize = 16 << 20;

/// Parts of one object under way at once.
const PARTS_UNDER_WAY: usize = 4;

/// How often an upload is begun, or a whole object read, until it is given up.
pub(crate) const BEGUN_AT_MOST: u32 = 3;

/// The store, the folder and the name that `rest`, the text after `s3://`, stands for.
///
/// # Errors
/// Of a bucket or prefix that cannot be; nothing is sent.
pub(crate) fn open(rest: &str) -> Result<(S3Store, StorePath, String), String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if prefix.starts_with('/') {
        return Err("its folder begins with a second `/`".to_owned());
    }
    let store = S3Store::of_environment(bucket).map_err(|e| e.to_string())?;
    let root = StorePath::parse(prefix.trim_end_matches('/')).map_err(|e| e.to_string())?;
    let shown = shown(&store, &root);
    Ok((store, root, shown))
}

/// How the folder `root` of `store` is called in messages.
pub(crate) fn shown(store: &S3Store, root: &StorePath) -> String {
    if root.as_ref().is_empty() { store.to_string() } else { format!("{store}/{root}") }
}

/// `root` and the segments of `relative` behind it, by their characters as they are.
pub(crate) fn join(root: &StorePath, segment: &str) -> Result<StorePath, String> {
    StorePath::parse(format!("{root}/{segment}").trim_start_matches('/')).map_err(|e| e.to_string())
}

/// Writes an object in parts, several under way. A failure leaves no part behind.
pub(crate) async fn put_in_parts(
    store: &S3Store,
    path: &StorePath,
    bytes: &Bytes,
    attributes: &Attributes,
) -> object_store::Result<()> {
    let mut begun = 0;
    loop {
        begun += 1;
        let options = PutMultipartOptions { attributes: attributes.clone(), ..PutMultipartOptions::default() };
        let mut upload = store.put_multipart_opts(path, options).await?;
        let parts = (0..bytes.len()).step_by(PART).map(|at| bytes.slice(at..bytes.len().min(at + PART)));
        let parts: Vec<_> = parts.map(|part| upload.put_part(part.into())).collect();
        let sent = futures::stream::iter(parts).buffer_unordered(PARTS_UNDER_WAY).try_collect::<Vec<()>>().await;
        let ended = match sent {
            Ok(_) => upload.complete().await.map(drop),
            Err(error) => Err(error),
        };
        let Err(error) = ended else { return Ok(()) };
        // The first failure is what the person must see.
        let _ = upload.abort().await;
        // Another writer of the same has tidied up after a killed one, and taken us for it.
        let taken = matches!(cause(&error), Some(s3::Error::NotFound { .. }));
        if !taken || begun == BEGUN_AT_MOST {
            return Err(error);
        }
    }
}

/// The adapter's own error, when it is at the bottom of one of the port.
pub(crate) fn cause(error: &object_store::Error) -> Option<&s3::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = next {
        if let Some(found) = at.downcast_ref() {
            return Some(found);
        }
        next = at.source();
    }
    None
}

/// A failure of S3 as the person must see it. What the port has a variant for is left to it.
pub(crate) fn told(place: &str, action: &'static str, error: &object_store::Error) -> Option<Error> {
    use s3::Error as S3;
    let place = place.to_owned();
    Some(match cause(error)?.clone() {
        S3::NotFound { .. } | S3::Precondition { .. } | S3::NotModified => return None,
        problem @ (S3::NoBucket { .. }
        | S3::NoCredentials { .. }
        | S3::Expired { .. }
        | S3::Rejected { .. }
        | S3::Denied { .. }
        | S3::Region { .. }) => Error::Access { place, problem },
        problem @ S3::Mismatch { .. } => Error::Corrupt { place, problem: problem.to_string() },
        other => Error::Storage { place, action, source: Box::new(other) },
    })
}

/// What a refused access means for the operator.
pub(crate) fn kind(problem: &s3::Error) -> ErrorKind {
    match problem {
        s3::Error::NoBucket { .. } => ErrorKind::Usage,
        _ => ErrorKind::Config,
    }
}

/// What the person can do about a refused access.
pub(crate) fn fix(problem: &s3::Error) -> String {
    match problem {
        s3::Error::NoBucket { .. } => "check the bucket's name, or make the bucket first".to_owned(),
        s3::Error::NoCredentials { .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile that has them".to_owned()
        }
        s3::Error::Expired { .. } => {
            "get new credentials (`aws sso login`, or a new AWS_SESSION_TOKEN) and run the command again".to_owned()
        }
        s3::Error::Rejected { code } if code == "RequestTimeTooSkewed" => "set this machine's clock".to_owned(),
        s3::Error::Rejected { .. } => {
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and that AWS_ENDPOINT_URL is theirs".to_owned()
        }
        s3::Error::Region { region: Some(region) } => format!("set AWS_REGION={region}"),
        s3::Error::Region { region: None } => "set AWS_REGION to the bucket's region".to_owned(),
        _ => "give these credentials the right to it (s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket), or use others"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use schemas::exit::Explain;

    #[test]
    fn a_url_names_a_place() {
        let cases = [
            ("s3://data", "s3://data", "s3://data/k"),
            ("s3://data/", "s3://data", "s3://data/k"),
            ("s3://data/a/b/", "s3://data/a/b", "s3://data/a/b/k"),
            ("s3://data/a b#1/ü", "s3://data/a b#1/ü", "s3://data/a b#1/ü/k"),
        ];
        for (text, shown, key) in cases {
            let place = Place::parse(text).unwrap();
            assert_eq!((place.to_string().as_str(), place.show("k").as_str()), (shown, key));
            assert!(!place.is_local());
        }
        assert!(Place::parse("data").unwrap().is_local());
    }

    #[test]
    fn places_are_relative_to_one_another() {
        let place = Place::parse("s3://data/a/b").unwrap();
        let cases = [
            (".", "s3://data/a/b"),
            ("c", "s3://data/a/b/c"),
            ("../c#1/d", "s3://data/a/c#1/d"),
            ("../../../..", "s3://data"),
            ("s3://other/x", "s3://other/x"),
        ];
        for (relative, shown) in cases {
            assert_eq!(place.join(relative).unwrap().to_string(), shown, "{relative}");
        }
        assert!(place.join("/absolute").unwrap().is_local());
        let (folder, name) = Place::parse_file("s3://data/a/x.json").unwrap();
        assert_eq!((folder.to_string().as_str(), name.as_str()), ("s3://data/a", "x.json"));
        assert_eq!(Place::parse_file("s3://data/x.json").unwrap().0.to_string(), "s3://data");
    }

    #[test]
    fn what_is_no_place_is_told() {
        let cases = [
            ("s3://", "`s3://` is not a place: `` is not the name of a bucket: it must have 3 to 63 characters"),
            (
                "s3://a b/c",
                "`s3://a b/c` is not a place: `a b` is not the name of a bucket: it may have letters, digits, dots and hyphens",
            ),
            ("s3://data//c", "`s3://data//c` is not a place: its folder begins with a second `/`"),
            ("s3://data/a//c", "`s3://data/a//c` is not a place: Path \"a//c\" contained empty path segment"),
        ];
        for (text, told) in cases {
            assert_eq!(Place::parse(text).unwrap_err().to_string(), told);
        }
        for text in ["s3://data", "s3://data/"] {
            let told = Place::parse_file(text).unwrap_err().to_string();
            assert_eq!(told, format!("`{text}` is not a place: it has no file name"));
        }
    }

    #[test]
    fn each_refusal_has_its_kind_and_remedy() {
        let code = "X".to_owned();
        let cases = [
            (s3::Error::NoBucket { bucket: code.clone() }, 2, "make the bucket"),
            (s3::Error::NoCredentials { detail: String::new() }, 4, "AWS_ACCESS_KEY_ID"),
            (s3::Error::Expired { code: code.clone() }, 4, "new credentials"),
            (s3::Error::Rejected { code: code.clone() }, 4, "AWS_SECRET_ACCESS_KEY"),
            (s3::Error::Rejected { code: "RequestTimeTooSkewed".to_owned() }, 4, "clock"),
            (s3::Error::Denied { code }, 4, "s3:GetObject"),
            (s3::Error::Region { region: Some("eu-west-1".to_owned()) }, 4, "AWS_REGION=eu-west-1"),
            (s3::Error::Region { region: None }, 4, "AWS_REGION"),
        ];
        for (problem, exit_code, remedy) in cases {
            let error = Error::Access { place: "s3://data/x".to_owned(), problem: problem.clone() };
            assert_eq!(error.kind().exit_code(), exit_code, "{problem:?}");
            assert!(error.fix().unwrap().contains(remedy), "{problem:?}");
            assert_eq!(error.to_string(), format!("s3://data/x: {problem}"));
        }
    }
}
