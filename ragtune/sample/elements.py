"""Chemical elements: name | symbol | atomic number | family | discoverer | year of discovery | named after.

The family is the element's group by its usual name. Discoverers and years stand where the sources agree on them;
elements known since antiquity have neither.
"""

ELEMENTS = """
Hydrogen|H|1||Henry Cavendish|1766|
Helium|He|2|noble gases||1868|the Sun
Lithium|Li|3|alkali metals|Johan August Arfwedson|1817|
Beryllium|Be|4|alkaline earth metals|Louis Nicolas Vauquelin|1798|beryl
Boron|B|5|boron group||1808|
Carbon|C|6|carbon group|||
Nitrogen|N|7|pnictogens|Daniel Rutherford|1772|
Oxygen|O|8|chalcogens|||
Fluorine|F|9|halogens|||
Neon|Ne|10|noble gases|William Ramsay and Morris Travers|1898|
Sodium|Na|11|alkali metals|Humphry Davy|1807|
Magnesium|Mg|12|alkaline earth metals|||Magnesia
Aluminium|Al|13|boron group|Hans Christian Ørsted||
Silicon|Si|14|carbon group|Jöns Jacob Berzelius||
Phosphorus|P|15|pnictogens|Hennig Brand|1669|
Sulfur|S|16|chalcogens|||
Chlorine|Cl|17|halogens|Carl Wilhelm Scheele|1774|
Argon|Ar|18|noble gases|Lord Rayleigh and William Ramsay|1894|
Potassium|K|19|alkali metals|Humphry Davy|1807|
Calcium|Ca|20|alkaline earth metals|Humphry Davy|1808|
Scandium|Sc|21|transition metals|Lars Fredrik Nilson|1879|Scandinavia
Titanium|Ti|22|transition metals|William Gregor|1791|the Titans
Vanadium|V|23|transition metals|Andrés Manuel del Río|1801|
Chromium|Cr|24|transition metals|Louis Nicolas Vauquelin||
Manganese|Mn|25|transition metals||1774|
Iron|Fe|26|transition metals|||
Cobalt|Co|27|transition metals|Georg Brandt||
Nickel|Ni|28|transition metals|Axel Fredrik Cronstedt|1751|
Copper|Cu|29|transition metals|||Cyprus
Zinc|Zn|30||||
Gallium|Ga|31|boron group|Paul-Émile Lecoq de Boisbaudran|1875|France
Germanium|Ge|32|carbon group|Clemens Winkler|1886|Germany
Arsenic|As|33|pnictogens|||
Selenium|Se|34|chalcogens||1817|the Moon
Bromine|Br|35|halogens|||
Krypton|Kr|36|noble gases|William Ramsay and Morris Travers|1898|
Rubidium|Rb|37|alkali metals|Robert Bunsen and Gustav Kirchhoff|1861|
Strontium|Sr|38|alkaline earth metals|||Strontian
Yttrium|Y|39|transition metals|Johan Gadolin|1794|Ytterby
Zirconium|Zr|40|transition metals|Martin Heinrich Klaproth|1789|
Niobium|Nb|41|transition metals|Charles Hatchett|1801|Niobe
Molybdenum|Mo|42|transition metals|Carl Wilhelm Scheele|1778|
Technetium|Tc|43|transition metals|Carlo Perrier and Emilio Segrè|1937|
Ruthenium|Ru|44|transition metals|Karl Ernst Claus|1844|
Rhodium|Rh|45|transition metals|William Hyde Wollaston||
Palladium|Pd|46|transition metals|William Hyde Wollaston||Pallas
Silver|Ag|47|transition metals|||
Cadmium|Cd|48|||1817|
Indium|In|49|boron group|Ferdinand Reich and Theodor Richter|1863|indigo
Tin|Sn|50|carbon group|||
Antimony|Sb|51|pnictogens|||
Tellurium|Te|52|chalcogens|Franz-Joseph Müller von Reichenstein|1782|the Earth
Iodine|I|53|halogens|Bernard Courtois|1811|
Xenon|Xe|54|noble gases|William Ramsay and Morris Travers|1898|
Caesium|Cs|55|alkali metals|Robert Bunsen and Gustav Kirchhoff|1860|
Barium|Ba|56|alkaline earth metals|||
Lanthanum|La|57|lanthanides|Carl Gustaf Mosander||
Cerium|Ce|58|lanthanides||1803|Ceres
Praseodymium|Pr|59|lanthanides|Carl Auer von Welsbach|1885|
Neodymium|Nd|60|lanthanides|Carl Auer von Welsbach|1885|
Promethium|Pm|61|lanthanides||1945|Prometheus
Samarium|Sm|62|lanthanides|Paul-Émile Lecoq de Boisbaudran|1879|
Europium|Eu|63|lanthanides|Eugène-Anatole Demarçay||Europe
Gadolinium|Gd|64|lanthanides|Jean Charles Galissard de Marignac|1880|Johan Gadolin
Terbium|Tb|65|lanthanides|Carl Gustaf Mosander|1843|Ytterby
Dysprosium|Dy|66|lanthanides|Paul-Émile Lecoq de Boisbaudran|1886|
Holmium|Ho|67|lanthanides||1878|Stockholm
Erbium|Er|68|lanthanides|Carl Gustaf Mosander|1843|Ytterby
Thulium|Tm|69|lanthanides|Per Teodor Cleve|1879|Thule
Ytterbium|Yb|70|lanthanides|Jean Charles Galissard de Marignac|1878|Ytterby
Lutetium|Lu|71|lanthanides|||Paris
Hafnium|Hf|72|transition metals|||Copenhagen
Tantalum|Ta|73|transition metals|Anders Gustaf Ekeberg|1802|Tantalus
Tungsten|W|74|transition metals|||
Rhenium|Re|75|transition metals|||the Rhine
Osmium|Os|76|transition metals|Smithson Tennant|1803|
Iridium|Ir|77|transition metals|Smithson Tennant|1803|Iris
Platinum|Pt|78|transition metals|||
Gold|Au|79|transition metals|||
Mercury|Hg|80||||
Thallium|Tl|81|boron group|William Crookes|1861|
Lead|Pb|82|carbon group|||
Bismuth|Bi|83|pnictogens|||
Polonium|Po|84|chalcogens|Pierre and Marie Curie|1898|Poland
Astatine|At|85|halogens||1940|
Radon|Rn|86|noble gases|||radium
Francium|Fr|87|alkali metals|Marguerite Perey|1939|France
Radium|Ra|88|alkaline earth metals|Pierre and Marie Curie|1898|
Actinium|Ac|89|actinides|||
Thorium|Th|90|actinides|Jöns Jacob Berzelius||Thor
Protactinium|Pa|91|actinides|||
Uranium|U|92|actinides|Martin Heinrich Klaproth|1789|Uranus
Neptunium|Np|93|actinides|Edwin McMillan and Philip Abelson|1940|Neptune
Plutonium|Pu|94|actinides|||Pluto
Americium|Am|95|actinides||1944|the Americas
Curium|Cm|96|actinides||1944|Pierre and Marie Curie
Berkelium|Bk|97|actinides||1949|Berkeley
Californium|Cf|98|actinides||1950|California
Einsteinium|Es|99|actinides||1952|Albert Einstein
Fermium|Fm|100|actinides||1952|Enrico Fermi
Mendelevium|Md|101|actinides||1955|Dmitri Mendeleev
Nobelium|No|102|actinides|||Alfred Nobel
Lawrencium|Lr|103|actinides||1961|Ernest Lawrence
Rutherfordium|Rf|104|transition metals|||Ernest Rutherford
Dubnium|Db|105|transition metals|||Dubna
Seaborgium|Sg|106|transition metals||1974|Glenn Seaborg
Bohrium|Bh|107|transition metals||1981|Niels Bohr
Hassium|Hs|108|transition metals||1984|Hesse
Meitnerium|Mt|109|||1982|Lise Meitner
Darmstadtium|Ds|110|||1994|Darmstadt
Roentgenium|Rg|111|||1994|Wilhelm Röntgen
Copernicium|Cn|112|||1996|Nicolaus Copernicus
Nihonium|Nh|113||||Japan
Flerovium|Fl|114||||
Moscovium|Mc|115||||Moscow
Livermorium|Lv|116|||2000|Livermore
Tennessine|Ts|117||||Tennessee
Oganesson|Og|118||||Yuri Oganessian
"""
