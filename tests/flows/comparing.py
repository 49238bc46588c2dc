"""Runs that do almost the same."""

from dbos import DBOS

from durable_workflows import receive


@DBOS.step()
def look_up(item: str, price: int) -> dict[str, object]:
    return {"item": item, "price": price}


@DBOS.step()
def refuse(item: str, early: bool) -> None:
    if early:
        raise ValueError(f"no price for {item}")
    raise ValueError(f"no price for {item}")


@DBOS.step()
def round_up(total: int) -> int:
    return total - total % -10


@DBOS.workflow()
def part_of_sum(item: str, price: int) -> int:
    """What is done for one item."""
    look_up(item, price)
    return price


@DBOS.workflow()
def sum_up(
    prices: dict[str, int], rounded: bool = False, early: bool = False, then: str | None = None
) -> dict[str, object]:
    """Add up prices; 0 is refused, and a negative one is looked up by another run."""
    total = 0
    DBOS.sleep(0.01)
    for item, price in prices.items():
        if price == 0:
            refuse(item, early)
        elif price < 0:
            total += DBOS.start_workflow(part_of_sum, item, -price).get_result()
        else:
            look_up(item, price)
            total += price
        if rounded:
            total = round_up(total)
    if then is not None:
        receive(then)
    return {"total": total, "items": list(prices)}
