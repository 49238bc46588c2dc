"""The tests of the main job again, on a Postgres in the project's folder: the fixtures beside this file give them projects that use one."""

import pytest

from test_claims import *  # noqa: F403
from test_crashing import *  # noqa: F403
from test_deleting import test_the_size_of_the_database_is_what_postgres_says as same_size
from test_messages import *  # noqa: F403
from test_recovery import *  # noqa: F403
from test_starts import *  # noqa: F403

pytestmark = [pytest.mark.anyio, pytest.mark.long]
test_the_size_of_the_database_is_what_postgres_says = same_size
