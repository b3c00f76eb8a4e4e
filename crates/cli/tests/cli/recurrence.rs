//! `--recurrence`.

use super::command;

#[test]
fn plan_takes_a_recurrence() {
    let run = |kind: &str| {
        let sizes = "plan --cell rnn-relu --time 3 --batch 2 --input 5 --hidden 6 --device cpu --recurrence";
        command(sizes).arg(kind).output().unwrap()
    };
    let text = |kind: &str| String::from_utf8(run(kind).stdout).unwrap();
    // IndRNN's u: one vec4 per unit.
    assert!(text("diagonal").contains("recurrence=diagonal"), "{}", text("diagonal"));
    assert!(text("diagonal").contains("[D, packed, k] = [1, 6, 4]"), "{}", text("diagonal"));
    assert!(text("dense").contains("[D, packed, k] = [1, 12, 4]") && !text("dense").contains("recurrence"));
    for (wrong, says) in
        [("heads:4", "a divisor of hidden_size 6, got 4"), ("some", "expected dense, diagonal or heads:N, got some")]
    {
        let output = run(wrong);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(says), "{message}");
    }
}
