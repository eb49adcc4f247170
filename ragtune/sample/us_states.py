"""The fifty states of the USA: name | capital | largest city | nickname | year of statehood | postal code.

Largest cities are by the census of 2020; a state whose two largest are too close to tell apart has none.
"""

US_STATES = """
Alabama|Montgomery|Huntsville|Yellowhammer State|1819|AL
Alaska|Juneau|Anchorage|Last Frontier|1959|AK
Arizona|Phoenix|Phoenix|Grand Canyon State|1912|AZ
Arkansas|Little Rock|Little Rock|Natural State|1836|AR
California|Sacramento|Los Angeles|Golden State|1850|CA
Colorado|Denver|Denver|Centennial State|1876|CO
Connecticut|Hartford|Bridgeport|Constitution State|1788|CT
Delaware|Dover|Wilmington|First State|1787|DE
Florida|Tallahassee|Jacksonville|Sunshine State|1845|FL
Georgia|Atlanta|Atlanta|Peach State|1788|GA
Hawaii|Honolulu|Honolulu|Aloha State|1959|HI
Idaho|Boise|Boise|Gem State|1890|ID
Illinois|Springfield|Chicago|Prairie State|1818|IL
Indiana|Indianapolis|Indianapolis|Hoosier State|1816|IN
Iowa|Des Moines|Des Moines|Hawkeye State|1846|IA
Kansas|Topeka|Wichita|Sunflower State|1861|KS
Kentucky|Frankfort|Louisville|Bluegrass State|1792|KY
Louisiana|Baton Rouge|New Orleans|Pelican State|1812|LA
Maine|Augusta|Portland|Pine Tree State|1820|ME
Maryland|Annapolis|Baltimore|Old Line State|1788|MD
Massachusetts|Boston|Boston|Bay State|1788|MA
Michigan|Lansing|Detroit|Great Lakes State|1837|MI
Minnesota|Saint Paul|Minneapolis|North Star State|1858|MN
Mississippi|Jackson|Jackson|Magnolia State|1817|MS
Missouri|Jefferson City|Kansas City|Show Me State|1821|MO
Montana|Helena|Billings|Treasure State|1889|MT
Nebraska|Lincoln|Omaha|Cornhusker State|1867|NE
Nevada|Carson City|Las Vegas|Silver State|1864|NV
New Hampshire|Concord|Manchester|Granite State|1788|NH
New Jersey|Trenton|Newark|Garden State|1787|NJ
New Mexico|Santa Fe|Albuquerque|Land of Enchantment|1912|NM
New York|Albany|New York City|Empire State|1788|NY
North Carolina|Raleigh|Charlotte|Tar Heel State|1789|NC
North Dakota|Bismarck|Fargo|Peace Garden State|1889|ND
Ohio|Columbus|Columbus|Buckeye State|1803|OH
Oklahoma|Oklahoma City|Oklahoma City|Sooner State|1907|OK
Oregon|Salem|Portland|Beaver State|1859|OR
Pennsylvania|Harrisburg|Philadelphia|Keystone State|1787|PA
Rhode Island|Providence|Providence|Ocean State|1790|RI
South Carolina|Columbia|Charleston|Palmetto State|1788|SC
South Dakota|Pierre|Sioux Falls|Mount Rushmore State|1889|SD
Tennessee|Nashville|Nashville|Volunteer State|1796|TN
Texas|Austin|Houston|Lone Star State|1845|TX
Utah|Salt Lake City|Salt Lake City|Beehive State|1896|UT
Vermont|Montpelier|Burlington|Green Mountain State|1791|VT
Virginia|Richmond|Virginia Beach|Old Dominion|1788|VA
Washington|Olympia|Seattle|Evergreen State|1889|WA
West Virginia|Charleston||Mountain State|1863|WV
Wisconsin|Madison|Milwaukee|Badger State|1848|WI
Wyoming|Cheyenne|Cheyenne|Equality State|1890|WY
"""
