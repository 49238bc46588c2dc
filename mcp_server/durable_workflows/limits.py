"""How much is kept of a run, read of it and shown; sizes are in characters. Whole values are had in parts."""

ANSWER = (
    7900  # with a margin under 8,000: about 2,000 tokens, a fifth of where clients begin to warn
)
ITEMS = ANSWER - 400  # for the items of a list; the rest is for what is said about them
PART = ANSWER - 1000  # for one part of one value; the rest is for what is said about it
INLINE = 4000  # an output that `start` and `wait` give out
PREVIEW = 600  # a value among a run's details
PAYLOAD = 800  # a value in the text about a run
EVENT = 200  # the value of an event
STEP = 200  # what a run does now
NAME = 100  # a name or topic
LOG_LINES = 2000  # of a run that are kept, the newest; a line has as many characters at most
MESSAGES = 1000  # of a run that are read
