"""What the bytes of a frame mean, by the names and numbers of GenICam's pixel format convention."""

from enum import IntEnum


class PixelFormat(IntEnum):
    """A format of 8 bits a value. The second byte of its number is the bits of a pixel."""

    Mono8 = 0x01080001
    BayerGR8 = 0x01080008
    """Behind a colour filter: the first row is green, red, and so on; the second blue, green."""
    BayerRG8 = 0x01080009
    BayerGB8 = 0x0108000A
    BayerBG8 = 0x0108000B
    RGB8 = 0x02180014
    BGR8 = 0x02180015
    RGBa8 = 0x02200016
    """The fourth value of a pixel is not looked at."""
    BGRa8 = 0x02200017

    @property
    def channels(self) -> int:
        """Return the values of a pixel: 1, 3 or 4."""
        return (self >> 16 & 0xFF) // 8

    @property
    def is_bayer(self) -> bool:
        """Say whether a pixel holds one of the three colours."""
        return self.name.startswith("Bayer")
