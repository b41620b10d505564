"""The table of diagnoses, each with findings and histories that leave no doubt of it."""

from __future__ import annotations

from soma_bench.agents.radiologist import Location
from soma_bench.cases.rules.diagnosis import DiagnosisRule, Look

_LOBES: tuple[Location, ...] = ("upper lobe", "lower lobe")

NODULE = DiagnosisRule(
    names=(
        "Solitary pulmonary nodule",
        "Pulmonary nodule",
        "Lung nodule",
        "Solitary lung nodule",
        "Indeterminate pulmonary nodule",
        "Incidental pulmonary nodule",
    ),
    codes=("R91.1",),
    look=Look(
        kind="nodule", locations=_LOBES, sizes_mm=(5, 7), characteristics=("solid", "smooth")
    ),
    contexts=(
        (
            "Never smoked, no complaints, no cancer. Found by chance; no earlier scan.",
            "A chance finding in a healthy person who has never smoked; no older images.",
        ),
        (
            "Screening scan after minor trauma. No symptoms, no known disease.",
            "No symptoms and no illness known; scanned after a fall.",
        ),
    ),
    workup="Chest CT in 6 to 12 months",
)
"""A small nodule without anything that would say more of it."""

DIAGNOSES: tuple[DiagnosisRule, ...] = (
    NODULE,
    DiagnosisRule(
        names=(
            "Lung adenocarcinoma",
            "Adenocarcinoma of the lung",
            "Pulmonary adenocarcinoma",
            "Adenocarcinoma",
            "Lung cancer",
            "Primary lung cancer",
            "Non-small cell lung cancer",
            "Lung carcinoma",
        ),
        coded_by="cancer",
        look=Look(
            kind="nodule",
            locations=_LOBES,
            sizes_mm=(18, 29),
            characteristics=("solid", "spiculated"),
        ),
        contexts=(
            (
                "40 pack-years. CT-guided biopsy: adenocarcinoma, TTF-1 positive.",
                "Biopsy under CT shows TTF-1 positive adenocarcinoma; smoked 40 pack-years.",
            ),
            (
                "Grew over 6 months. Bronchoscopic biopsy: primary adenocarcinoma of the lung.",
                "Transbronchial biopsy: primary lung adenocarcinoma. Larger than half a year ago.",
            ),
        ),
        workup="PET-CT for staging",
    ),
    DiagnosisRule(
        names=(
            "Pulmonary tuberculosis",
            "Tuberculosis",
            "Tuberculosis of lung",
            "Active pulmonary tuberculosis",
            "Cavitary tuberculosis",
            "Lung tuberculosis",
        ),
        codes=("A15.0",),
        look=Look(
            kind="opacity",
            locations=("upper lobe",),
            sizes_mm=(25, 50),
            characteristics=("solid", "cavitary"),
        ),
        contexts=(
            (
                "Night sweats and weight loss. Sputum: acid-fast bacilli, PCR for M. tuberculosis positive.",
                "PCR for M. tuberculosis positive, acid-fast bacilli in sputum; sweats at night, thinner.",
            ),
            (
                "Brother treated for tuberculosis. Cough for 8 weeks, culture grows M. tuberculosis.",
                "Coughing for two months; M. tuberculosis in culture. A brother had the disease.",
            ),
        ),
        workup="Isolation and drug susceptibility test",
    ),
    DiagnosisRule(
        names=(
            "Pulmonary metastases",
            "Lung metastases",
            "Pulmonary metastasis",
            "Lung metastasis",
            "Metastases",
            "Metastatic colorectal cancer",
            "Metastatic colon cancer",
        ),
        coded_by="metastasis",
        look=Look(
            kind="nodule",
            locations=_LOBES,
            sizes_mm=(8, 19),
            characteristics=("solid", "smooth"),
            count=2,
        ),
        contexts=(
            (
                "Colon cancer resected two years ago, CEA rising. Both nodules are new; biopsy fits the colon tumor.",
                "New nodules, histology as in the colon cancer removed two years ago; CEA goes up.",
            ),
            (
                "Known colorectal cancer with liver metastases. Nodules new since spring, biopsy: same tumor.",
                "Biopsy: the known colorectal tumor, already in the liver. No nodules were there in spring.",
            ),
        ),
        workup="Tumor board",
    ),
    DiagnosisRule(
        names=(
            "Pneumonia",
            "Community-acquired pneumonia",
            "Bacterial pneumonia",
            "Lobar pneumonia",
            "Community acquired pneumonia",
        ),
        codes=("J18.9", "J18.1", "J15.9"),
        look=Look(kind="opacity", locations=_LOBES, sizes_mm=(40, 90)),
        contexts=(
            (
                "Fever of 39.4 for 3 days, purulent sputum, CRP 210. Better on amoxicillin.",
                "Improves with amoxicillin. Three days of fever, yellow sputum, CRP at 210.",
            ),
            (
                "Sudden chills and pleuritic pain, leukocytes 18. No aspiration, HIV negative.",
                "Chills out of the blue, pain on breathing, 18 000 leukocytes; HIV test negative, no aspiration.",
            ),
        ),
        workup="Chest radiograph in 6 weeks",
    ),
    DiagnosisRule(
        names=("Lung abscess", "Pulmonary abscess", "Abscess of lung"),
        codes=("J85.2", "J85.1"),
        look=Look(
            kind="mass",
            locations=_LOBES,
            sizes_mm=(42, 70),
            characteristics=("solid", "cavitary"),
        ),
        contexts=(
            (
                "Foul sputum and fever for 2 weeks, poor teeth. Air-fluid level; aspirate grows anaerobes.",
                "Anaerobes in the aspirate, air-fluid level. Bad dental state, two weeks of fever, smelly sputum.",
            ),
            (
                "Alcohol dependence, fever, air-fluid level in the cavity. No malignant cells, pus on drainage.",
                "Drainage gives pus, no tumor cells; fever, air and fluid in the cavity, drinks heavily.",
            ),
        ),
        workup="Blood cultures",
    ),
    DiagnosisRule(
        names=(
            "Malignant pleural effusion",
            "Pleural carcinomatosis",
            "Malignant effusion",
            "Malignant pleural effusion due to breast cancer",
        ),
        codes=("J91.0",),
        look=Look(kind="effusion", locations=("pleura",), sizes_mm=(30, 80), characteristics=()),
        contexts=(
            (
                "Breast cancer. Thoracentesis: exudate with malignant cells.",
                "Malignant cells in the pleural exudate; treated for breast cancer.",
            ),
            (
                "Breathless for 3 weeks, breast cancer in 2019. Pleural cytology positive for carcinoma.",
                "Cytology of the effusion: carcinoma. Breast cancer in 2019, short of breath for weeks.",
            ),
        ),
        workup="Pleurodesis consult",
    ),
    DiagnosisRule(
        names=("Heart failure", "Congestive heart failure", "Cardiac failure", "Cardiac effusion"),
        codes=("I50.9", "I50.20", "I50.22", "I50.30"),
        look=Look(kind="effusion", locations=("pleura",), sizes_mm=(15, 40), characteristics=()),
        contexts=(
            (
                "Ejection fraction 25 %, leg edema, BNP 2400. Transudate; gone after diuretics.",
                "Diuretics cleared it. Transudate, BNP 2400, swollen legs, ejection fraction 25 %.",
            ),
            (
                "Orthopnea, dilated left ventricle, BNP 1900, transudate on thoracentesis.",
                "Sleeps upright; large left ventricle, BNP 1900. Thoracentesis: transudate.",
            ),
        ),
        workup="Echocardiography",
    ),
    DiagnosisRule(
        names=(
            "Sarcoidosis",
            "Pulmonary sarcoidosis",
            "Thoracic sarcoidosis",
            "Sarcoidosis of lymph nodes",
            "Sarcoidosis of lung with sarcoidosis of lymph nodes",
        ),
        codes=("D86.1", "D86.2"),
        look=Look(kind="lymph node", locations=("hilum",), sizes_mm=(14, 28)),
        contexts=(
            (
                "Erythema nodosum, raised ACE. EBUS: non-caseating granulomas, no mycobacteria.",
                "EBUS: granulomas without necrosis, no mycobacteria; ACE high, erythema nodosum.",
            ),
            (
                "Uveitis and fatigue. Node biopsy: non-necrotizing granulomas, cultures sterile.",
                "Tired, uveitis. Cultures sterile; granulomas without necrosis in the node.",
            ),
        ),
        workup="Pulmonary function tests",
    ),
    DiagnosisRule(
        names=("Pulmonary hamartoma", "Hamartoma", "Lung hamartoma", "Hamartoma of lung"),
        coded_by="benign",
        look=Look(
            kind="nodule",
            locations=_LOBES,
            sizes_mm=(12, 24),
            characteristics=("calcified", "lobulated"),
        ),
        contexts=(
            (
                "Unchanged for 5 years. Popcorn calcification and fat inside.",
                "Fat and popcorn calcification within; the same size five years ago.",
            ),
            (
                "No complaints. Biopsy: cartilage and fat, benign.",
                "Biopsy shows benign cartilage with fat; feels well.",
            ),
        ),
        workup="No follow-up",
    ),
    DiagnosisRule(
        names=(
            "Aspergilloma",
            "Pulmonary aspergilloma",
            "Fungus ball",
            "Mycetoma",
            "Pulmonary aspergillosis",
            "Chronic pulmonary aspergillosis",
        ),
        codes=("B44.1", "B44.9", "B44.89"),
        look=Look(
            kind="mass",
            locations=("upper lobe",),
            sizes_mm=(31, 45),
            characteristics=("cavitary",),
        ),
        contexts=(
            (
                "Old tuberculosis cavity. Mobile ball with air crescent, hemoptysis, Aspergillus IgG positive.",
                "Coughs blood; Aspergillus IgG positive. A ball that moves in an old tuberculous cavity.",
            ),
            (
                "Hemoptysis; the content of the cavity moves when prone. Precipitins against A. fumigatus.",
                "Precipitins to A. fumigatus, blood in sputum, cavity content falls to the front when prone.",
            ),
        ),
        workup="Thoracic surgery consult",
    ),
    DiagnosisRule(
        names=(
            "Hodgkin lymphoma",
            "Hodgkin's lymphoma",
            "Classical Hodgkin lymphoma",
            "Nodular sclerosing Hodgkin lymphoma",
            "Lymphoma",
        ),
        codes=("C81.92", "C81.90", "C81.12", "C81.10"),
        look=Look(kind="mass", locations=("mediastinum",), sizes_mm=(45, 95)),
        contexts=(
            (
                "Age 24, fever and itching. Biopsy: Reed-Sternberg cells, CD30 positive.",
                "Reed-Sternberg cells, CD30 positive, on biopsy; 24 years old, itching, fever.",
            ),
            (
                "Night sweats, lymph node excision: nodular sclerosing Hodgkin lymphoma.",
                "Excised node: Hodgkin lymphoma, nodular sclerosis. Sweats at night.",
            ),
        ),
        workup="PET-CT for staging",
    ),
)
