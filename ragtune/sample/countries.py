"""Countries: name | capital | continent | currency | language of government | ISO code | calling code.

A fact is left out where it is disputed (the capital of Bolivia), has changed of late, or is shared (the calling code
+1). The ISO code is ISO 3166-1 alpha-2; the calling code is the one that the ITU has assigned.
"""

COUNTRIES = """
Algeria|Algiers|Africa|Algerian dinar||DZ|+213
Angola|Luanda|Africa|kwanza|Portuguese|AO|+244
Benin|Porto-Novo|Africa|West African CFA franc|French|BJ|+229
Botswana|Gaborone|Africa|pula||BW|+267
Burkina Faso|Ouagadougou|Africa|West African CFA franc||BF|+226
Burundi||Africa|Burundian franc||BI|+257
Cameroon|Yaoundé|Africa|Central African CFA franc||CM|+237
Cape Verde|Praia|Africa|Cape Verdean escudo|Portuguese|CV|+238
Central African Republic|Bangui|Africa|Central African CFA franc||CF|+236
Chad|N'Djamena|Africa|Central African CFA franc||TD|+235
Comoros|Moroni|Africa|Comorian franc||KM|+269
Democratic Republic of the Congo|Kinshasa|Africa|Congolese franc|French|CD|+243
Republic of the Congo|Brazzaville|Africa|Central African CFA franc|French|CG|+242
Djibouti||Africa|Djiboutian franc||DJ|+253
Egypt|Cairo|Africa|Egyptian pound|Arabic|EG|+20
Equatorial Guinea||Africa|Central African CFA franc|Spanish|GQ|+240
Eritrea|Asmara|Africa|nakfa||ER|+291
Eswatini||Africa|lilangeni||SZ|+268
Ethiopia|Addis Ababa|Africa|birr|Amharic|ET|+251
Gabon|Libreville|Africa|Central African CFA franc|French|GA|+241
Gambia|Banjul|Africa|dalasi|English|GM|+220
Ghana|Accra|Africa|cedi|English|GH|+233
Guinea|Conakry|Africa|Guinean franc|French|GN|+224
Guinea-Bissau|Bissau|Africa|West African CFA franc|Portuguese|GW|+245
Ivory Coast|Yamoussoukro|Africa|West African CFA franc|French|CI|+225
Kenya|Nairobi|Africa|Kenyan shilling||KE|+254
Lesotho|Maseru|Africa|loti||LS|+266
Liberia|Monrovia|Africa|Liberian dollar|English|LR|+231
Libya|Tripoli|Africa|Libyan dinar|Arabic|LY|+218
Madagascar|Antananarivo|Africa|ariary||MG|+261
Malawi|Lilongwe|Africa|Malawian kwacha||MW|+265
Mali|Bamako|Africa|West African CFA franc||ML|+223
Mauritania|Nouakchott|Africa|ouguiya|Arabic|MR|+222
Mauritius|Port Louis|Africa|Mauritian rupee||MU|+230
Morocco|Rabat|Africa|Moroccan dirham||MA|+212
Mozambique|Maputo|Africa|metical|Portuguese|MZ|+258
Namibia|Windhoek|Africa|Namibian dollar|English|NA|+264
Niger|Niamey|Africa|West African CFA franc||NE|+227
Nigeria|Abuja|Africa|naira|English|NG|+234
Rwanda|Kigali|Africa|Rwandan franc||RW|+250
São Tomé and Príncipe|São Tomé|Africa|dobra|Portuguese|ST|+239
Senegal|Dakar|Africa|West African CFA franc|French|SN|+221
Seychelles|Victoria|Africa|Seychellois rupee||SC|+248
Sierra Leone|Freetown|Africa|leone|English|SL|+232
Somalia|Mogadishu|Africa|Somali shilling|Somali|SO|+252
South Africa||Africa|rand||ZA|+27
South Sudan|Juba|Africa|South Sudanese pound|English|SS|+211
Sudan|Khartoum|Africa|Sudanese pound|Arabic|SD|+249
Tanzania|Dodoma|Africa|Tanzanian shilling|Swahili|TZ|+255
Togo|Lomé|Africa|West African CFA franc|French|TG|+228
Tunisia|Tunis|Africa|Tunisian dinar|Arabic|TN|+216
Uganda|Kampala|Africa|Ugandan shilling||UG|+256
Zambia|Lusaka|Africa|Zambian kwacha|English|ZM|+260
Zimbabwe|Harare|Africa|||ZW|+263
Afghanistan|Kabul|Asia|afghani||AF|+93
Armenia|Yerevan||dram|Armenian|AM|+374
Azerbaijan|Baku||Azerbaijani manat|Azerbaijani|AZ|+994
Bahrain|Manama|Asia|Bahraini dinar|Arabic|BH|+973
Bangladesh|Dhaka|Asia|taka|Bengali|BD|+880
Bhutan|Thimphu|Asia|ngultrum|Dzongkha|BT|+975
Brunei|Bandar Seri Begawan|Asia|Brunei dollar|Malay|BN|+673
Cambodia|Phnom Penh|Asia|riel|Khmer|KH|+855
China|Beijing|Asia|renminbi|Mandarin|CN|+86
Cyprus|Nicosia||euro||CY|+357
India|New Delhi|Asia|Indian rupee||IN|+91
Indonesia||Asia|rupiah|Indonesian|ID|+62
Iran|Tehran|Asia|Iranian rial|Persian|IR|+98
Iraq|Baghdad|Asia|Iraqi dinar||IQ|+964
Japan|Tokyo|Asia|yen|Japanese|JP|+81
Jordan|Amman|Asia|Jordanian dinar|Arabic|JO|+962
Kazakhstan|Astana|Asia|tenge||KZ|
Kuwait|Kuwait City|Asia|Kuwaiti dinar|Arabic|KW|+965
Kyrgyzstan|Bishkek|Asia|som||KG|+996
Laos|Vientiane|Asia|kip|Lao|LA|+856
Lebanon|Beirut|Asia|Lebanese pound|Arabic|LB|+961
Malaysia|Kuala Lumpur|Asia|ringgit|Malay|MY|+60
Maldives|Malé|Asia|rufiyaa|Dhivehi|MV|+960
Mongolia|Ulaanbaatar|Asia|tugrik|Mongolian|MN|+976
Myanmar|Naypyidaw|Asia|kyat|Burmese|MM|+95
Nepal|Kathmandu|Asia|Nepalese rupee|Nepali|NP|+977
North Korea|Pyongyang|Asia|North Korean won|Korean|KP|+850
Oman|Muscat|Asia|Omani rial|Arabic|OM|+968
Pakistan|Islamabad|Asia|Pakistani rupee||PK|+92
Philippines|Manila|Asia|Philippine peso||PH|+63
Qatar|Doha|Asia|Qatari riyal|Arabic|QA|+974
Saudi Arabia|Riyadh|Asia|Saudi riyal|Arabic|SA|+966
Singapore||Asia|Singapore dollar||SG|+65
South Korea|Seoul|Asia|South Korean won|Korean|KR|+82
Sri Lanka||Asia|Sri Lankan rupee||LK|+94
Syria|Damascus|Asia|Syrian pound|Arabic|SY|+963
Tajikistan|Dushanbe|Asia|somoni|Tajik|TJ|+992
Thailand|Bangkok|Asia|baht|Thai|TH|+66
Timor-Leste|Dili|Asia|United States dollar||TL|+670
Turkey|Ankara||Turkish lira|Turkish|TR|+90
Turkmenistan|Ashgabat|Asia|Turkmenistani manat|Turkmen|TM|+993
United Arab Emirates|Abu Dhabi|Asia|Emirati dirham|Arabic|AE|+971
Uzbekistan|Tashkent|Asia||Uzbek|UZ|+998
Vietnam|Hanoi|Asia|dong|Vietnamese|VN|+84
Yemen|Sanaa|Asia|Yemeni rial|Arabic|YE|+967
Albania|Tirana|Europe|lek|Albanian|AL|+355
Andorra|Andorra la Vella|Europe|euro|Catalan|AD|+376
Austria|Vienna|Europe|euro|German|AT|+43
Belarus|Minsk|Europe|Belarusian ruble||BY|+375
Belgium|Brussels|Europe|euro||BE|+32
Bosnia and Herzegovina|Sarajevo|Europe|convertible mark||BA|+387
Bulgaria|Sofia|Europe||Bulgarian|BG|+359
Croatia|Zagreb|Europe|euro|Croatian|HR|+385
Czech Republic|Prague|Europe|Czech koruna|Czech|CZ|+420
Denmark|Copenhagen|Europe|Danish krone|Danish|DK|+45
Estonia|Tallinn|Europe|euro|Estonian|EE|+372
Finland|Helsinki|Europe|euro||FI|+358
France|Paris|Europe|euro|French|FR|+33
Germany|Berlin|Europe|euro|German|DE|+49
Greece|Athens|Europe|euro|Greek|GR|+30
Hungary|Budapest|Europe|forint|Hungarian|HU|+36
Iceland|Reykjavik|Europe|Icelandic krona|Icelandic|IS|+354
Ireland|Dublin|Europe|euro|English|IE|+353
Italy|Rome|Europe|euro|Italian|IT|+39
Latvia|Riga|Europe|euro|Latvian|LV|+371
Liechtenstein|Vaduz|Europe|Swiss franc|German|LI|+423
Lithuania|Vilnius|Europe|euro|Lithuanian|LT|+370
Luxembourg|Luxembourg City|Europe|euro||LU|+352
Malta|Valletta|Europe|euro||MT|+356
Moldova|Chisinau|Europe|Moldovan leu|Romanian|MD|+373
Monaco||Europe|euro|French|MC|+377
Montenegro|Podgorica|Europe|euro|Montenegrin|ME|+382
Netherlands|Amsterdam|Europe|euro|Dutch|NL|+31
North Macedonia|Skopje|Europe|Macedonian denar|Macedonian|MK|+389
Norway|Oslo|Europe|Norwegian krone|Norwegian|NO|+47
Poland|Warsaw|Europe|zloty|Polish|PL|+48
Portugal|Lisbon|Europe|euro|Portuguese|PT|+351
Romania|Bucharest|Europe|Romanian leu|Romanian|RO|+40
Russia|Moscow||Russian ruble|Russian|RU|
San Marino||Europe|euro|Italian|SM|+378
Serbia|Belgrade|Europe|Serbian dinar|Serbian|RS|+381
Slovakia|Bratislava|Europe|euro|Slovak|SK|+421
Slovenia|Ljubljana|Europe|euro|Slovene|SI|+386
Spain|Madrid|Europe|euro|Spanish|ES|+34
Sweden|Stockholm|Europe|Swedish krona|Swedish|SE|+46
Switzerland|Bern|Europe|Swiss franc||CH|+41
Ukraine|Kyiv|Europe|hryvnia|Ukrainian|UA|+380
United Kingdom|London|Europe|pound sterling|English|GB|+44
Antigua and Barbuda|Saint John's|North America|East Caribbean dollar|English|AG|
Bahamas|Nassau|North America|Bahamian dollar|English|BS|
Barbados|Bridgetown|North America|Barbadian dollar|English|BB|
Belize|Belmopan|North America|Belize dollar|English|BZ|+501
Canada|Ottawa|North America|Canadian dollar||CA|
Costa Rica|San José|North America|Costa Rican colón|Spanish|CR|+506
Cuba|Havana|North America|Cuban peso|Spanish|CU|+53
Dominica|Roseau|North America|East Caribbean dollar|English|DM|
Dominican Republic|Santo Domingo|North America|Dominican peso|Spanish|DO|
El Salvador|San Salvador|North America|United States dollar|Spanish|SV|+503
Grenada|Saint George's|North America|East Caribbean dollar|English|GD|
Guatemala|Guatemala City|North America|quetzal|Spanish|GT|+502
Haiti|Port-au-Prince|North America|gourde||HT|+509
Honduras|Tegucigalpa|North America|lempira|Spanish|HN|+504
Jamaica|Kingston|North America|Jamaican dollar|English|JM|
Mexico|Mexico City|North America|Mexican peso|Spanish|MX|+52
Nicaragua|Managua|North America|córdoba|Spanish|NI|+505
Panama|Panama City|North America|balboa|Spanish|PA|+507
Saint Kitts and Nevis|Basseterre|North America|East Caribbean dollar|English|KN|
Saint Lucia|Castries|North America|East Caribbean dollar|English|LC|
Saint Vincent and the Grenadines|Kingstown|North America|East Caribbean dollar|English|VC|
Trinidad and Tobago|Port of Spain|North America|Trinidad and Tobago dollar|English|TT|
United States|Washington, D.C.|North America|United States dollar|English|US|
Argentina|Buenos Aires|South America|Argentine peso|Spanish|AR|+54
Bolivia||South America|boliviano|Spanish|BO|+591
Brazil|Brasília|South America|Brazilian real|Portuguese|BR|+55
Chile|Santiago|South America|Chilean peso|Spanish|CL|+56
Colombia|Bogotá|South America|Colombian peso|Spanish|CO|+57
Ecuador|Quito|South America|United States dollar|Spanish|EC|+593
Guyana|Georgetown|South America|Guyanese dollar|English|GY|+592
Paraguay|Asunción|South America|guaraní||PY|+595
Peru|Lima|South America|sol|Spanish|PE|+51
Suriname|Paramaribo|South America|Surinamese dollar|Dutch|SR|+597
Uruguay|Montevideo|South America|Uruguayan peso|Spanish|UY|+598
Venezuela|Caracas|South America|bolívar|Spanish|VE|+58
Australia|Canberra|Oceania|Australian dollar|English|AU|+61
Fiji|Suva|Oceania|Fijian dollar||FJ|+679
Kiribati||Oceania|Australian dollar||KI|+686
Marshall Islands|Majuro|Oceania|United States dollar||MH|+692
Micronesia|Palikir|Oceania|United States dollar||FM|+691
New Zealand|Wellington|Oceania|New Zealand dollar|English|NZ|+64
Palau|Ngerulmud|Oceania|United States dollar||PW|+680
Papua New Guinea|Port Moresby|Oceania|kina||PG|+675
Samoa|Apia|Oceania|tala||WS|+685
Solomon Islands|Honiara|Oceania|Solomon Islands dollar|English|SB|+677
Tonga|Nuku'alofa|Oceania|pa'anga||TO|+676
Tuvalu|Funafuti|Oceania|Australian dollar||TV|+688
Vanuatu|Port Vila|Oceania|vatu||VU|+678
"""
