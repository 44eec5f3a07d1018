//! The suite that the storage port publishes for its implementations, as it runs it for its own store for S3.

use object_store::{ObjectStoreExt, integration as suite};

use super::*;

#[test]
fn the_port_s_suite_passes() {
    let server = SeaweedFs::start();
    let store = store(&server);
    // The suite itself asks for a runtime; the store, as the other tests show, does not.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        suite::put_get_delete_list(&store).await;
        suite::list_with_offset_exclusivity(&store).await;
        suite::get_opts(&store).await;
        suite::list_uses_directories_correctly(&store).await;
        suite::list_with_delimiter(&store).await;
        suite::rename_and_copy(&store).await;
        suite::stream_get(&store).await;
        suite::multipart(&store, &store).await;
        suite::multipart_race_condition(&store, true).await;
        suite::multipart_out_of_order(&store).await;
        suite::put_get_attributes(&store).await;
        // In a bucket of its own, which this server makes of the first write to it, because it goes on listing folders for a while
        // when all that was in them is deleted.
        let pages = S3Store::connect("pages", &settings(&server.url(), SeaweedFs::ADMIN)).unwrap();
        pages.put(&"first".into(), "".into()).await.unwrap();
        suite::list_paginated(&pages, &pages).await;
        suite::put_opts(&store, true).await;
        suite::copy_rename_nonexistent_object(&store).await;
        let missing = suite::get_nonexistent_object(&store, None).await.unwrap_err();
        assert!(matches!(missing, object_store::Error::NotFound { .. }), "{missing:?}");
        suite::copy_if_not_exists(&store).await;
    });
}
