//! Uploads in parts. One that is dropped without being completed is aborted, so that no parts are left that are paid for.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, UploadPart};

use crate::runtime::{self, run};
use crate::sdk::{Ask, Bucket, Written};
use crate::{Error, token};

/// An upload of one object under way.
#[derive(Debug)]
pub(crate) struct Upload {
    bucket: Bucket,
    path: Path,
    id: String,
    /// Put into the object's metadata, to know it again when the answer to its completion is lost.
    writer: String,
    next: usize,
    tags: Arc<Mutex<Vec<Option<String>>>>,
    ended: bool,
}

impl Upload {
    pub(crate) async fn begin(
        bucket: Bucket,
        path: &Path,
        options: object_store::PutMultipartOptions,
    ) -> Result<Self, Error> {
        let writer = token::token();
        let headers = crate::attributes::Headers::from(&options.attributes).written_by(&writer);
        let tags = Some(options.tags.encoded().to_owned()).filter(|tags| !tags.is_empty());
        let (begun, key) = (bucket.clone(), path.to_string());
        let id = run(async move { begun.begin(key, headers, tags).await }).await?;
        Ok(Self { bucket, path: path.clone(), id, writer, next: 0, tags: Arc::default(), ended: false })
    }

    fn set(tags: &Mutex<Vec<Option<String>>>, index: usize, tag: String) {
        let mut tags = tags.lock().unwrap_or_else(PoisonError::into_inner);
        if tags.len() <= index {
            tags.resize(index + 1, None);
        }
        tags[index] = Some(tag);
    }
}

/// Makes an object of parts. Without any, of an empty one, which S3 asks for.
pub(crate) async fn complete(bucket: &Bucket, key: &str, id: &str, mut tags: Vec<String>) -> Result<Written, Error> {
    if tags.is_empty() {
        tags.push(bucket.part(key.to_owned(), id.to_owned(), 1, Bytes::new()).await?);
    }
    bucket.complete(key.to_owned(), id.to_owned(), tags).await
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (bucket, path, id, tags) =
            (self.bucket.clone(), self.path.clone(), self.id.clone(), Arc::clone(&self.tags));
        let index = self.next;
        self.next += 1;
        Box::pin(async move {
            let key = path.to_string();
            let sent = async move {
                let number = part_number(index)?;
                Self::set(&tags, index, bucket.part(key, id, number, data.into()).await?);
                Ok(())
            };
            run(sent).await.map_err(|e| e.of(path.as_ref()))
        })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let tags: Option<Vec<String>> =
            self.tags.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let missing = Error::Internal { cause: "a part of the upload was not sent".to_owned() };
        let tags = tags.filter(|tags| tags.len() == self.next).ok_or_else(|| missing.of(self.path.as_ref()))?;
        let (bucket, key, id, writer) =
            (self.bucket.clone(), self.path.to_string(), self.id.clone(), self.writer.clone());
        let completed = run(async move {
            match complete(&bucket, &key, &id, tags).await {
                // Either it was aborted, or it is done and only the answer was lost.
                Err(gone @ Error::NotFound { .. }) => {
                    let there = bucket.head(Ask { key, ..Ask::default() }).await.map_err(|_| gone.clone())?;
                    let ours = there.headers.writer() == Some(&writer);
                    if ours { Ok(Written { e_tag: there.e_tag, version: there.version }) } else { Err(gone) }
                }
                other => other,
            }
        });
        let written = completed.await.map_err(|e| e.of(self.path.as_ref()))?;
        self.ended = true;
        Ok(PutResult { e_tag: written.e_tag, version: written.version })
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        let (bucket, key, id) = (self.bucket.clone(), self.path.to_string(), self.id.clone());
        run(async move { bucket.abort(key, id).await }).await.map_err(|e| e.of(self.path.as_ref()))?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (false, Ok(handle)) = (self.ended, runtime::handle()) {
            let (bucket, key, id) = (self.bucket.clone(), self.path.to_string(), std::mem::take(&mut self.id));
            // What cannot be aborted now is found by `S3Store::abort_unfinished`.
            handle.spawn(async move { bucket.abort(key, id).await });
        }
    }
}

/// S3 counts parts from 1 to 10000.
pub(crate) fn part_number(index: usize) -> Result<i32, Error> {
    let too_many = Error::Internal { cause: format!("part {} of an upload, of at most 10000", index + 1) };
    i32::try_from(index + 1).ok().filter(|number| *number <= 10_000).ok_or(too_many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!([0, 9999].map(|index| part_number(index).unwrap()), [1, 10_000]);
        let error = part_number(10_000).unwrap_err();
        assert_eq!(error.to_string(), "part 10001 of an upload, of at most 10000");
    }
}
