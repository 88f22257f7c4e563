"""Volume profiles: how a session's volume spreads over prices, its VPOC and value area, also at every bar.

One definition holds everywhere. Prices are int64 ticks; volume is counted in units of 1/720720
contract, so that a bar's volume divides exactly over 1 to 16 ticks and integer sums conserve it.

1. A bar of n ticks gives ``volume * 720720 // n`` units to each tick from low to high, and the
   remainder to the tick of its close. ``profile.spread`` may give all to the close instead, or a triangle
   that rises from both ends to the close.
2. The VPOC is the price with the most volume; of equals the nearest to the middle of the session's
   range; of equals still, the lower.
3. The value area grows from the VPOC until it holds the asked share of the volume: the two prices
   above against the two below, the larger sum joins, equal sums go up; one leftover price counts
   alone; a side without prices loses (J. Dalton, Mind over Markets, appendix 1). The one-price rule
   compares single prices.
"""
