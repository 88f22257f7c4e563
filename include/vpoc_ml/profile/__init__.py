"""Volume profiles: the volume on every price of a session, its VPOC and value area, also at every bar.

All functions share one definition. Prices are int64 ticks. Volume is counted in units of 1/720720 contract, so
the volume of a bar divides exactly over 1 to 16 ticks and integer sums conserve it.

1. A bar of n ticks gives ``volume * 720720 // n`` units to each tick from its low to its high. The remainder goes
   to the tick of its close. ``profile.spread`` can also put all volume on the close, or spread it as a triangle
   that rises from both ends to the close.
2. The VPOC is the price with the most volume. Of equal prices it is the one nearest to the middle of the session's
   range; of equal distances, the lower price.
3. The value area grows from the VPOC until it holds the configured share of the volume. Each step compares the two
   prices above with the two below and adds the pair with the larger sum. On equal sums the upper pair is added. A
   single remaining price counts alone, and a side without prices is never chosen (J. Dalton, Mind over Markets,
   appendix 1). The one-price rule compares single prices.
"""
