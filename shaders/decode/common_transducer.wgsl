// What the kernels of a transducer share: `words` and the rows' state. A row is a stream. `state` has FIELDS words per row, then per round and
// row the token that came or NONE, then per round and row the step at which it did.

// Of `words`; durations follow from DURATION_VALUES on.
const ROWS = 0u;
const SIZE = 1u;
const LOGITS_FIRST = 2u;
const LOGITS_STRIDE = 3u;
const DURATIONS = 4u;
const DURATIONS_FIRST = 5u;
const DURATIONS_STRIDE = 6u;
const BLANK = 7u;
const MAX_SYMBOLS = 8u;
const ROUNDS = 9u;
// The joint network's inputs, an encoder's step and what the prediction network gives: widths and first elements.
const ENCODED = 10u;
const ENCODED_FIRST = 11u;
const PREDICTED = 12u;
const PREDICTED_FIRST = 13u;
// Where the prediction network has what it gives.
const GIVEN_FIRST = 14u;
const GIVEN_STRIDE = 15u;
// Steps of a stream that are there.
const WINDOW = 16u;
const DURATION_VALUES = 17u;

// Of a row's state.
const FIELDS = 8u;
const SCORE = 0u;
const STATUS = 1u;
// The step, of those that are there, and how many there are.
const AT = 2u;
const TIME = 3u;
// Tokens at that step.
const SYMBOLS = 4u;
// Whether the prediction network has read a token since the joint network ran.
const ADVANCED = 5u;
const ROUND = 6u;
// The slot of its state, and behind all rows' state one that nobody reads.
const SLOT = 7u;

const LIVE = 0u;
const DONE = 1u;
const POISONED = 2u;
const NONE = 0xffffffffu;
