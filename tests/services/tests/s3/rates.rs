//! How fast objects go to and from the server, and what of a processor our side takes. A measurement, not a test: it asserts that
//! the bytes are right, and prints the rest.

use std::time::Instant;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::*;

/// Seconds of processors that this process has used; Linux counts them in hundredths.
fn used() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
    fields.iter().skip(10).take(2).sum::<f64>() / 100.0
}

#[test]
#[ignore = "a measurement"]
fn rates() {
    let server = SeaweedFs::start();
    let store = store(&server);
    println!("size      under way  put MB/s  put cpu s/GB  get MB/s  get cpu s/GB");
    for (size, count) in [(500_000, 400), (64_000_000, 8)] {
        let body = Bytes::from(bytes(size, 1));
        for under_way in [1, 8, 32] {
            let all = (size * count) as f64;
            let paths: Vec<Path> = (0..count).map(|i| Path::from(format!("{size}/{under_way}/{i}"))).collect();
            let (begun, before) = (Instant::now(), used());
            let puts = futures::stream::iter(paths.iter()).map(|path| store.put(path, body.clone().into()));
            block_on(puts.buffer_unordered(under_way).try_collect::<Vec<_>>()).unwrap();
            let (put, put_cpu) = (begun.elapsed().as_secs_f64(), used() - before);
            let (begun, before) = (Instant::now(), used());
            let gets = futures::stream::iter(paths.iter()).map(|path| async { store.get(path).await?.bytes().await });
            let got = gets.buffer_unordered(under_way).try_fold(0, |sum, got| async move { Ok(sum + got.len()) });
            assert_eq!(block_on(got).unwrap(), size * count);
            let (get, get_cpu) = (begun.elapsed().as_secs_f64(), used() - before);
            println!(
                "{size:<9} {under_way:<10} {:<9.0} {:<13.2} {:<9.0} {:.2}",
                all / put / 1e6,
                put_cpu / all * 1e9,
                all / get / 1e6,
                get_cpu / all * 1e9
            );
        }
    }
}
