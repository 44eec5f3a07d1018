//! What the README says of large data, S3 and pipes, as it is typed there, but for the number of rows and the names of the
//! buckets, each piece in a folder of its own.

use super::World;

#[test]
fn what_the_readme_says_of_places_and_pipes_can_be_typed() {
    let world = World::new();
    world.done("prep generate criteo --rows 20000 -o train.txt.gz");
    let raw = std::fs::read(world.path().join("train.txt.gz")).unwrap();
    world.place("s3://data/raw").put("criteo/train.txt.gz", raw).unwrap();

    let readme = include_str!("../../README.md");
    let section = readme.split_once("\n## Larger than memory, in S3,").unwrap().1.split_once("\n## ").unwrap().0;
    let blocks: Vec<&str> = section.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect();
    let reports: Vec<_> = blocks
        .iter()
        .map(|block| {
            let small = block.replace("50000000", "50000");
            let here = small.replace("s3://raw/", "s3://data/raw/").replace("s3://models/", "s3://data/");
            world.shell(&format!("set -eu; cd $(mktemp -d -p .); ln ../train.txt.gz .\n{here}")).report()
        })
        .collect();
    let [large, verified, piped] = &reports[..] else { panic!("three pieces, not {blocks:?}") };
    assert_eq!((&large["rows"], &piped["rows"]), (&50_000.into(), &20_000.into()), "{large} {piped}");
    assert_eq!(verified["whole"], true, "{verified}");
}
