"""What the commands print of what others wrote."""

from services.cli.terminal import printable


def test_what_people_wrote_cannot_steer_the_terminal() -> None:
    written = "red \x1b[31m\x9b2J\r\nand \u202eback\x07"
    told = printable(written)
    assert told == "red \ufffd[31m\ufffd2J\ufffd\nand \ufffdback\ufffd"
    assert printable("Zwei Jahre, 保証, 3 €") == "Zwei Jahre, 保証, 3 €"
