//! Two processes that write to one place at the same time.

use super::{World, assert_same};

#[test]
fn of_two_writers_of_different_content_one_wins_and_the_other_is_told() {
    let world = World::with_dataset(20_000);
    for (root, rounds) in [("local", 4), ("s3://data/w", 8)] {
        let alone = [8, 9].map(|seed| {
            world.done(&format!("shard prepared --batch 200 --seed {seed} -o {root}/{seed}"));
            world.objects(&format!("{root}/{seed}"))
        });
        let (mut at_the_end, mut won) = (0, [0, 0]);
        for round in 0..rounds {
            let place = format!("{root}/both{round}");
            let mut seeds = [8, 9];
            seeds.rotate_left(round % 2);
            let running = seeds
                .map(|seed| world.start(&format!("shard prepared --batch 200 --seed {seed} -o {place}"), &world.env()));
            let said = running.map(pipeline_tests::Running::wait);
            let winner = said.iter().position(|said| said.code == Some(0));
            let winner = winner.unwrap_or_else(|| panic!("{root}, round {round}: nobody won: {said:#?}"));
            let told = &said[1 - winner];
            told.failed(5, &["error: ", &place, "fix: "]);
            at_the_end += usize::from(told.stderr.contains("already exists"));
            won[seeds[winner] - 8] += 1;
            world.done(&format!("shard verify {place}/criteo.json"));
            assert_same(&world.objects(&place), &alone[seeds[winner] - 8], &format!("{place}: only the winner's"));
        }
        eprintln!("{root}: won {won:?}, of {rounds} {at_the_end} were refused at an index that was there");
    }
    assert_eq!(world.unfinished(), [""; 0]);
}

#[test]
fn two_writers_of_the_same_content_do_not_harm_each_other() {
    let world = World::with_dataset(20_000);
    for (root, rounds) in [("local", 4), ("s3://data/w", 6)] {
        let line = |place: &str| format!("shard prepared --batch 200 -o {root}/{place}");
        world.done(&line("alone"));
        let expected = world.objects(&format!("{root}/alone"));
        for round in 0..rounds {
            let place = format!("both{round}");
            let said = [0, 1].map(|_| world.start(&line(&place), &world.env())).map(pipeline_tests::Running::wait);
            let mut codes = said.each_ref().map(|said| said.code.unwrap());
            codes.sort_unstable();
            assert!(codes == [0, 0] || codes == [0, 5], "{said:#?}");
            world.done(&format!("shard verify {root}/{place}/criteo.json"));
            assert_same(&world.objects(&format!("{root}/{place}")), &expected, &place);
            assert_eq!(world.done(&line(&place))["unchanged"], true);
        }
    }
}
