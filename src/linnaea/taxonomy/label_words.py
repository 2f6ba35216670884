"""The words of labels that are not names: authors, English nouns, connectives, stages of life, number words."""

import re

_LATIN = re.compile(
    r"[a-zëïöü-]*(?:us|um|[a-z]{2}ur|[a-z]{2}ar|[a-z]ox|ux|men|a|ae|is|[aeio]ns|ii?|ense|ensis|oides|es|e|on|or|ax|ex|ix|yx|os|as|o|er|ps|ys)",
    re.IGNORECASE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AUTHOR_WORDS = _words(
    """linnaeus linné linne linn fabricius latreille lamarck cuvier gray walker miller thunberg lindley bentham hooker
    franchet schreber pallas gmelin illiger temminck vieillot gould hübner hubner denis haworth boisduval guenée
    bonaparte swainson brisson müller scopoli poda cramer drury rottemburg hewitson felder butler moore
    desfontaines nuttall michaux engelmann torrey greene rafinesque ruprecht ledebour regel boissier kunth
    humboldt persoon fries saccardo berkeley bulliard agardh kützing ehrenberg sowerby hermann meyrick hampson
    warren stainton zeller herrich schiffermüller geoffroy olivier dejean erichson lacordaire chevrolat reitter
    motschulsky germar gyllenhal say leconte audubon forster horsfield hodgson blyth oustalet gunther günther
    boulenger cope girard baird risso bloch valenciennes lacepède rüppell quoy gaimard costa rossi silvestri
    berlese koch simon thorell westring clerck"""
)
"""Surnames of authors that often follow names unabbreviated and that could be epithets by their form."""

_ENGLISH_WITH_LATIN_ENDING = _words(
    """white blue orange purple large little olive pine tree apple marble maple cherry-tree eagle turtle beetle whale
    grebe dove grouse grosbeak vulture and the giraffe ape goose mouse horse grape vine rose sage spruce bee
    snake zebra wolves leaves disease healthy potato tomato flower water winter summer upper over bitter silver
    copper tiger spider plover warbler skimmer creeper other pepper ginger burner spurge table common-or garden
    nature borer hopper miner flycatcher woodpecker kingfisher otter badger beaver panther lobster oyster butter
    river clover fritillary oriole eagle-owl thrasher harrier kestrel-like streamer tailor weaver cougar jaguar
    cedar poplar caterpillar solar polar lunar regular dinosaur sulfur sulphur fox women specimen gazelle
    antelope crocodile centipede millipede scale pike sole rattlesnake bees flies trees fishes mosses grasses
    butterflies larvae pupae larva pupa male female juvenile tadpole on or as"""
)

ENGLISH_NOUNS = _words(
    """adder agama albatross alder alga algae alligator anemone angelfish anole ant antbird antelope antlion antpitta
    antshrike antwren ape aphid apple armadillo ash aster auk auklet avocet azalea azure babbler badger bamboo
    bananaquit banana barb barbet bark barnacle bass bat batis bay bean bear beaver beauty bedbug bee beech
    beetle bellflower bells berry bindweed birch bird bittern bitterling blackberry blackbird blackbirds blight
    bloom bluebell bluebells blue bluet bluebird boa boar bobcat bollworm booby boobook borer bream broadbill
    bronze broom brown buckthorn buckwheat bud buffalo bug bugs bulb bulbul bullfinch bumblebee bunting bush
    bushshrike bustard butcherbird buttercup butterfly butterflies buttonquail buzzard cabbage cactus caiman
    camel camellia campion canary canker cap caracara cardinal carp caterpillar cat catfish cedar centipede
    chafer chameleon chat cherry chickadee chickweed chough cicada clam clover cobra cockatoo cockroach cod
    common condor coneflower coot copper coral cormorant cotinga cottonwood coucal cowbird crab crake crane
    crayfish creeper crescent cress cricket crocodile crossbill crow cuckoo cuckooshrike curassow curlew currant
    cypress daffodil dahlia daisy damselfly dandelion darner darter deer dipper disease diver dog dogwood
    dolphin dotterel dove dragon dragonfly drongo duck dunlin eagle earthworm earwig eel egret eider elder
    elephant elm elderberry emerald emu euphonia ewe falcon fan fantail fern fescue fig finch fir firefly fish
    flag flamingo flea fleabane flicker flower flowerpecker flowers fly flycatcher flies forester forktail fox
    francolin friarbird fritillary frog frogmouth fruit fruits fuchsia fulvetta fungus fungi gadwall gall gannet
    garden garlic gazelle gecko geometer gentian geranium ginger giraffe glider gnat gnatcatcher goat goby
    godwit goldenrod goldfinch goose gooseberry goshawk grackle grape grass grasses grasshopper grayling grebe
    green greenbul greenfinch grosbeak ground grouper grouse guan gull gum hairstreak halibut hare harebell
    harrier hawk hawkmoth hawthorn hazel heath heather hedgehog hemlock hen heron herring hibiscus hickory hippo
    hissing holly honeybee honeycreeper honeyeater honeysuckle hopper hornbill hornet horse hoverfly hummingbird
    hydrangea hyena hyacinth ibex ibis iguana iris ivy jacamar jacana jackal jaguar jasmine jay jellyfish jewel
    juniper kale kangaroo katydid kelp kestrel killdeer king kingbird kingfisher kite kiwi knapweed knot
    knotweed koala ladybird ladybug lady lapwing larch lark larva larvae laurel lavender leaf leafhopper
    leafminer leaves leek lemming lemon lemur leopard lettuce lichen lilac lily limpet linnet lion lizard
    lobster locust looper loon loosestrife lorikeet lory louse lupin lupine lynx macaw mackerel magpie mallard
    mallow malkoha man manakin mangrove mantis maple marigold marmot marten martin meadow meadowlark merganser
    merlin midge milkweed millet millipede miner minnow mint mistletoe mite mites mockingbird mole monarch
    monkey moorhen moose mosquito moss mosses moth moths mountain mouse mullet munia mushroom mushrooms mussel
    mussels mustard myna narcissus nettle newt nighthawk nightingale nightjar nightshade nuthatch nutmeg oak oat
    oats octopus olive onion opossum orange orangutan orbweaver orchid oriole osprey ostrich otter ovenbird owl
    owlet oyster oystercatcher palm panda pansy panther parakeet parrot parrotbill parrotfish partridge parula
    pea peach peacock pear pelican penguin pepper perch petrel pewee phacelia phalarope pheasant phoebe pigeon
    pig pike pine pink pintail pipit pitcher pitta plane plant plants plantain plover plum plume pochard polecat
    polypore pondweed pony poplar poppy porcupine porpoise possum potato prawn primrose prinia privet ptarmigan
    puffball puffbird puffin puma pumpkin python quail quelea quetzal rabbit raccoon racer ragwort rail
    raspberry rat ratsnake rattlesnake raven ray red redpoll redshank redstart reed reedling rhea rhino
    rhododendron ringlet roach robin rockfish roller rook root rose rosefinch rosella rosemary rot ruff runner
    rush rust ryegrass sage sagebrush salamander salmon saltator sandpiper sanderling sapsucker sardine sawfly
    saxifrage scale scallop scaup scorpion scoter sea seahorse seal seaweed sedge seed seedeater serval shag
    shark shearwater sheep shelduck shield shieldbug shoveler shrew shrike shrimp shrub sicklebill silk silkmoth
    silkworm siskin skate skimmer skink skipper skua skunk sloth slug smut snail snake snapdragon snapper snipe
    sole sorrel sparrow sparrowhawk spearwort speedwell sphinx spider spiderhunter spiders spinach spinetail
    sponge spoonbill spot spreadwing sprite spruce spurfowl spurge squid squirrel stag star starfish starling
    stinkbug stinkhorn stilt stint stonechat stonecrop stork strawberry sturgeon sucker sumac sunbird sunfish
    sunflower swallow swallowtail swan swift swiftlet sycamore tailorbird tanager tapaculo tarantula teal
    termite tern terns terrapin thistle thornbill thrasher thrips thrush thyme tick tiger tinamou tit titmouse
    toad toadflax tobacco tomato tortoise tortoiseshell toucan toucanet towhee treecreeper tree treefrog trees
    trillium triller trogon trout truffle tuna turaco turkey turtle tussock twig tyrannulet tyrant underwing
    vanga vetch vine viola violet viper vireo vole vulture wagtail wallaby walnut walrus warbler warbler's
    warthog wasp water wattle wave wax waxbill waxwing weasel weaver weed weevil whale wheat wheatear whelk
    whimbrel whistler white whitebeam white-eye whitefly widow wigeon wildcat willow willowherb wolf wombat wood
    woodcock woodcreeper woodlouse woodpecker worm wormwood wort wren wryneck yak yam yarrow yellow yellowhammer
    yellowthroat yew zebra adult juvenile male female nest tracks scat skull flowering fruiting healthy"""
)
"""English nouns at the end of common names, and words of stage and state: none is an author."""

STAGES = (
    "larvae?|caterpillars?|pupae?|chrysalis|cocoons?|eggs?|nymphs?|adults?|juveniles?|males?|females?|imago|imagines|"
    "nests?|tracks?|scats?|skulls?|feathers?|leaf|leaves|flowers?|bark|fruits?|seeds?|seedlings?|twigs?|buds?|stems?|"
    "roots?|cones?|shells?|galls?|webs?|tadpoles?|workers?|queens?|drones?|subadults?|chicks?|herbarium|specimens?"
)
"""Words for a stage or part of an organism: "larva of Pieris brassicae" is Pieris brassicae."""

AUTHOR_PARTICLES = _words("""von van vom zu zum de del della der den di da du des dos la le les el f fil et ex in y""")
"""Small words inside the names of authors."""

ODD_BINOMIALS = frozenset(
    """Malamatidia zu, Eresus da, Leptonetela la, Zodarion van, Desmoxytes des, Stenoecia dos, Stichophthalma le,
    Nocaracris van, Agnetina den, Gnathopleustes den, Bolitoglossa la, Lampona spec, Hemicloeina spec,
    Castelnaudia spec, Miopristis spec, Thinodromus spec, Arvelius spec, Chloropepla spec, Doesburgedessa spec,
    Pelidnocoris spec, Leucomigus candidatus, Orthotylus candidatus, Centropogon candidatus, Lasconotus complex,
    Sarcophaga forma, Tethea or, Serina ser, Navicula bacterium, Spirophora bacterium""".replace("\n   ", "").split(
        ", "
    )
)
"""Species whose epithet is elsewhere a mark or a part of an author's name."""


def binomial_of_words(text: str) -> str | None:
    """Return the species that a text begins with if its epithet is one of those words ("Desmoxytes des")."""
    binomial = " ".join(text.split(" ", 2)[:2])
    return binomial if binomial in ODD_BINOMIALS else None


_NUMBERS = {
    2: "bi",
    3: "tri",
    4: "quadri",
    5: "quinque",
    6: "sex",
    7: "septem",
    8: "octo",
    9: "novem",
    10: "decem",
    11: "undecim",
    12: "duodecim",
    13: "tredecim",
    14: "quatuordecim",
    15: "quindecim",
    16: "sedecim",
    17: "septendecim",
    18: "octodecim",
    19: "novemdecim",
    20: "viginti",
    21: "vigintiuno",
    22: "vigintiduo",
    23: "vigintitre",
    24: "vigintiquatuor",
    25: "vigintiquinque",
    26: "vigintisex",
    27: "vigintiseptem",
    28: "vigintiocto",
    30: "triginta",
    38: "trigintaocto",
    40: "quadraginta",
    100: "centum",
}
_NUMBERED = re.compile(r"(\d{1,3})-?([a-zë]{4,})")


def looks_latin(word: str) -> bool:
    """Return whether a word could be an epithet by its ending; some English words pass too."""
    return len(word) > 1 and bool(_LATIN.fullmatch(word)) and word.lower() not in _ENGLISH_WITH_LATIN_ENDING


def spell_number(word: str) -> str:
    """Return an epithet with its number in Latin ("7-punctata", "septempunctata"; ICZN article 32.5.2.6)."""
    match = _NUMBERED.fullmatch(word)
    number = _NUMBERS.get(int(match[1])) if match else None
    return f"{number}{match[2]}" if match and number and looks_latin(match[2]) else word
