"""How much of a run is kept, read and shown; sizes are in characters. Whole values are available in parts."""

ANSWER = (
    7900  # with a margin under 8,000: about 2,000 tokens, a fifth of where clients begin to warn
)
ITEMS = ANSWER - 400  # for the items of a list; the rest is for the text about them
PART = ANSWER - 1000  # for one part of one value; the rest is for the text about it
INLINE = 4000  # an output in the answer of `start` and `wait`
PREVIEW = 600  # a value among a run's details
PAYLOAD = 800  # a value in the text about a run
EVENT = 200  # the value of an event
STEP = 200  # the current activity of a run
NAME = 100  # a name or topic
LOG_LINES = 2000  # the newest lines of a run, which are kept; a line has at most as many characters
MESSAGES = 1000  # of a run, which are read
