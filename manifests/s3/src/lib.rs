//! S3 as an object store, through the AWS SDK.
