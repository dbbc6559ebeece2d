"""Small published data sets in their official layout, with the official column names."""

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CHEXPERT14 = ("No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
              "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
              "Fracture,Support Devices")
MIMIC14 = ("Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
           "Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,"
           "Pneumothorax,Support Devices")
CXR_LT45 = ("Adenopathy,Atelectasis,Azygos Lobe,Bulla,Calcification of the Aorta,Cardiomegaly,"
            "Cardiomyopathy,Clavicle Fracture,Consolidation,Edema,Emphysema,"
            "Enlarged Cardiomediastinum,Fibrosis,Fissure,Fracture,Granuloma,Hernia,Hilum,"
            "Hydropneumothorax,Infarction,Infiltration,Kyphosis,Lobar Atelectasis,Lung Lesion,"
            "Lung Opacity,Mass,Nodule,Normal,Osteopenia,Pleural Effusion,Pleural Other,"
            "Pleural Thickening,Pneumomediastinum,Pneumonia,Pneumoperitoneum,Pneumothorax,"
            "Pulmonary Embolism,Pulmonary Hypertension,Rib Fracture,Round(ed) Atelectasis,"
            "Scoliosis,Subcutaneous Emphysema,Support Devices,Tortuous Aorta,Tuberculosis")
VINDR27 = ("Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,"
           "Consolidation,Edema,Emphysema,Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,"
           "Lung cyst,Mediastinal shift,Nodule/Mass,Pleural effusion,Pleural thickening,"
           "Pneumothorax,Pulmonary fibrosis,Rib fracture,Other lesion,COPD,Lung tumor,Pneumonia,"
           "Tuberculosis")


def labels(names: str, values: dict, rest: str = "") -> str:
  """Cells of the label columns `names`; `rest` where `values` says nothing."""
  assert set(values) <= set(names.split(",")), values
  return ",".join(str(values.get(name, rest)) for name in names.split(","))


def picture(path: Path, seed: int) -> None:
  """Writes noise in the file's format."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.random.default_rng(seed).integers(0, 256, (24, 20)).astype(np.uint8)
  Image.fromarray(pixels).save(path, quality=95)


def write(path: Path, *lines: str) -> None:
  """Writes lines, compressed where the name says so."""
  path.parent.mkdir(parents=True, exist_ok=True)
  opener = gzip.open if path.suffix == ".gz" else open
  with opener(path, "wt", encoding="utf-8") as file:
    file.write("\n".join(lines) + "\n")


# Image, subject, study, split, view, view code, labels (None: the study has no labels).
MIMIC = [
  ("d0", "10000032", "50414267", "train", "PA", "", {"No Finding": "1.0"}),
  ("d1", "10000032", "50414267", "train", "LATERAL", "", {"No Finding": "1.0"}),
  ("d2", "10000032", "53189527", "train", "AP", "",
   {"Pleural Effusion": "1.0", "Edema": "-1.0", "Pneumonia": "0.0"}),
  ("d3", "10000764", "57375967", "validate", "", "postero-anterior", {"Atelectasis": "1.0"}),
  ("d4", "10000898", "50771383", "test", "AP", "", None),
  ("d5", "10000898", "54205396", "test", "", "", {"Fracture": "1.0"}),
]


def make_mimic(root: Path) -> None:
  """MIMIC-CXR-JPG with the zip of MIMIC-CXR's reports."""
  split = ["dicom_id,study_id,subject_id,split"]
  metadata = ["dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,"
              "Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,"
              "ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"]
  tables = {name: [f"subject_id,study_id,{MIMIC14}"] for name in ("chexpert", "negbio")}
  with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w") as reports:
    for i, (image, subject, study, part, view, code, values) in enumerate(MIMIC):
      folder = f"files/p{subject[:2]}/p{subject}"
      picture(root / f"{folder}/s{study}/{image}.jpg", i)
      split.append(f"{image},{study},{subject},{part}")
      # The later study of the first patient has the smaller number of days.
      day = 21800506 - int(study == "53189527")
      metadata.append(f"{image},{subject},{study},CHEST (PA AND LAT),{view},3056,2544,{day},"
                      f"213014.531,CHEST (PA AND LAT),{code},Erect")
      row = f"{subject},{study},{labels(MIMIC14, values or {})}"
      for name, lines in tables.items():
        if values is not None and row not in lines and (name, image) != ("negbio", "d2"):
          lines.append(row)
      name = f"{folder}/s{study}.txt"
      if name not in reports.namelist() and image != "d4":
        reports.writestr(name, f"FINAL REPORT of s{study}\n")
  write(root / "mimic-cxr-2.0.0-split.csv.gz", *split)
  write(root / "mimic-cxr-2.0.0-metadata.csv.gz", *metadata)
  for name, lines in tables.items():
    write(root / f"mimic-cxr-2.0.0-{name}.csv.gz", *lines)


def make_cxr_lt(root: Path) -> None:
  """CXR-LT beside MIMIC-CXR-JPG."""
  make_mimic(root)
  head = "dicom_id,subject_id,study_id,ViewPosition,ViewCodeSequence_CodeMeaning,fpath"
  found = [{"Normal": 1}, {"Normal": 1}, {"Round(ed) Atelectasis": 1, "Hilum": 1},
           {"Pneumoperitoneum": 1}, {"Rib Fracture": 1, "Fracture": 1}, {"Mass": 1}]
  rows = [f"{image},{subject},{study},{view},{code},files/x.jpg,"
          f"{labels(CXR_LT45, values, '0')},{'development' if part == 'validate' else part}"
          for (image, subject, study, part, view, code, _), values
          in zip(MIMIC, found, strict=True)]
  write(root / "cxr-lt-2024/labels.csv", f"{head},{CXR_LT45},split", *rows)
  names = ",".join(name for name in CXR_LT45.split(",") if name in (
      "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Fracture",
      "Calcification of the Aorta", "Enlarged Cardiomediastinum", "Hernia", "Infiltration", "Mass",
      "Lung Lesion", "Lung Opacity", "Nodule", "Pleural Effusion", "Pleural Other", "Pneumonia",
      "Pleural Thickening", "Pneumomediastinum", "Pneumoperitoneum", "Pneumothorax",
      "Subcutaneous Emphysema", "Support Devices", "Tortuous Aorta")) + ",No Finding"
  for file, part in (("train", "train"), ("development", "validate"), ("test", "test")):
    write(root / f"cxr-lt-2023/{file}.csv", f"path,{head.removesuffix(',fpath')},{names}", *(
        f"files/x.jpg,{image},p{subject},s{study},{view},{code},{labels(names, {'Mass': 1}, '0')}"
        for image, subject, study, where, view, code, _ in MIMIC if where == part))


def make_chexpert(root: Path) -> None:
  """CheXpert-v1.0-small."""
  head = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT14}"
  where = "CheXpert-v1.0-small"
  rows = [("train/patient00001/study1/view1_frontal.jpg", "Female,68,Frontal,AP",
           {"No Finding": "1.0", "Support Devices": "1.0"}),
          ("train/patient00002/study2/view1_frontal.jpg", "Male,87,Frontal,PA",
           {"Cardiomegaly": "-1.0", "Fracture": "1.0", "Pneumothorax": "0.0"}),
          ("train/patient00002/study2/view2_lateral.jpg", "Male,87,Lateral,",
           {"Cardiomegaly": "-1.0", "Fracture": "1.0"}),
          ("train/patient00003/study10/view1_frontal.jpg", "Male,41,Frontal,AP", {"Edema": "1.0"}),
          ("train/patient00004/study1/view1_frontal.jpg", "Unknown,20,Frontal,AP", {})]
  write(root / "train.csv", head, *(f"{where}/{path},{about},{labels(CHEXPERT14, values)}"
                                    for path, about, values in rows))
  path = "valid/patient64541/study1/view1_frontal.jpg"
  write(root / "valid.csv", head, f"{where}/{path},Male,73,Frontal,AP,"
                                  f"{labels(CHEXPERT14, {'Cardiomegaly': '1.0'}, '0.0')}")
  for i, name in enumerate([*(row[0] for row in rows), path]):
    picture(root / name, i)


def make_chexpert_plus(root: Path) -> None:
  """CheXpert Plus with the PNG images."""
  head = ("path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,"
          "patient_report_date_order,report,section_narrative,section_clinical_history,"
          "section_history,section_comparison,section_technique,section_procedure_comments,"
          "section_findings,section_impression,section_end_of_impression,section_summary,"
          "section_accession_number,age,sex,race,ethnicity,interpreter_needed,insurance_type,"
          "recent_bmi,deceased,split")
  rows = [("train/patient00001/study1/view1_frontal", "Frontal,AP,patient00001,2", "train"),
          ("train/patient00001/study2/view1_frontal", "Frontal,PA,patient00001,1", "train"),
          ("train/patient00001/study2/view2_lateral", "Lateral,,patient00001,1", "train"),
          ("train/patient00005/study1/view1_frontal", "Frontal,AP,patient00005,1", "train"),
          ("valid/patient64541/study1/view1_frontal", "Frontal,AP,patient64541,1", "valid")]
  write(root / "df_chexpert_plus_240401.csv", head, *(
      f'{path}.jpg,{path}.dcm,{about},"NARRATIVE:\n""no"", change",,,,,,,,,,,,75.0,Male,White,,,,,,'
      f'{split}'
      for path, about, split in rows))
  names = CHEXPERT14.split(",")
  found = [{"Edema": 1.0, "Pneumonia": -1.0}, {"No Finding": 1.0}, {"No Finding": 1.0},
           {"Mass": None}, {"Pleural Effusion": 0.0}]
  for section in ("impression", "report", "findings"):
    write(root / f"chexbert_labels/{section}_fixed.json", *(
        json.dumps({"path_to_image": f"{path}.jpg", **{name: values.get(name) for name in names}})
        for (path, _, _), values in zip(rows, found, strict=True)))
  for i, (path, _, _) in enumerate(rows):
    picture(root / "PNG" / f"{path}.png", i)


def make_nih(root: Path) -> None:
  """NIH ChestX-ray14 with the header as published, whose brackets hold commas."""
  rows = ["00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143,",
          "00000001_001.png,Cardiomegaly|Pleural_Thickening,1,1,411,M,PA,2894,2729,0.143,0.143,",
          "00000002_000.png,No Finding,0,2,81,F,AP,2500,2048,0.171,0.171,",
          "00000003_000.png,Hernia|Edema,0,3,74,F,PA,2500,2048,0.168,0.168,",
          "00000004_000.png,Mass,0,4,30,F,PA,2500,2048,0.168,0.168,"]
  write(root / "Data_Entry_2017_v2020.csv", "Image Index,Finding Labels,Follow-up #,Patient ID,"
        "Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
        "OriginalImagePixelSpacing[x,y],", *rows)
  names = [row.split(",")[0] for row in rows]
  write(root / "train_val_list.txt", *names[:3], names[4])
  write(root / "test_list.txt", names[3])
  for i, name in enumerate(names):
    picture(root / f"images_{'001' if i < 3 else '012'}/images/{name}", i)


def make_padchest(root: Path) -> None:
  """PadChest, with all columns of its table."""
  head = (",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,"
          "ViewPosition_DICOM,Projection,MethodProjection,Pediatric,Modality_DICOM,"
          "Manufacturer_DICOM,PhotometricInterpretation_DICOM,PixelRepresentation_DICOM,"
          "PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,"
          "WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,"
          "ExposureInuAs_DICOM,ExposureTime,RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,"
          "Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS")
  rows = [("a.png", "0", "20140915", "10", "1", "1930.0", "F", "PA", "['normal']"),
          ("b.png", "0", "20150101", "11", "1", "1930.0", "F", "L", "['normal']"),
          ("c.png", "54", "20150101", "12", "1", "1930.0", "F", "AP_horizontal",
           "['loculated pleural effusion', ' pacemaker', 'unchanged', 'chronic changes']"),
          ("d.png", "54", "20160101", "13", "2", "", "M", "PA", "['chronic changes']"),
          ("e.png", "54", "20160101", "14", "3", "1900.0", "M", "AP", "['exclude']"),
          ("f.png", "54", "20160101", "15", "4", "1950.0", "M", "PA", "__import__('os')"),
          ("g.png", "54", "20160101", "16", "5", "1950.0", "M", "", "['scoliosis']"),
          ("h.png", "54", "20160101", "17", "6", "1950.0", "M", "PA", "")]
  write(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", head, *(
      f'{i},{image},{folder},{date},{study},{patient},{birth},{sex},POSTEROANTERIOR,{view},'
      f'Manual review of DICOM fields,No,CR,PhilipsMedicalSystems,'
      f'MONOCHROME{1 if image == "c.png" else 2},0,,,12,2048,4096,1755,1755,,,,,,4765777,'
      f'sin hallazgo .,Physician,"{found}",[],[],[],[]'
      for i, (image, folder, date, study, patient, birth, sex, view, found) in enumerate(rows)))
  for i, (image, folder, *_) in enumerate(rows):
    picture(root / folder / image, i)


def make_vindr(root: Path) -> None:
  """VinDr-CXR: three readers an image of train, one row an image of test."""
  votes = {"t0": [{"No finding": 1}] * 3,
           "t1": [{"Cardiomegaly": 1, "Nodule/Mass": 1}, {"Cardiomegaly": 1}, {"ILD": 1}],
           "t2": [{"Aortic enlargement": 1}, {"No finding": 1}, {"No finding": 1}],
           "t3": [{"Pleural effusion": 1}] * 3}
  for split, other in (("train", "Other diseases"), ("test", "Other disease")):
    head = f"{VINDR27},{other},No finding"
    if split == "train":
      rows = [f"{image},R{reader},{labels(head, values, '0')}" for reader in range(3)
              for image, readings in votes.items() for values in [readings[reader]]]
      write(root / "annotations/image_labels_train.csv", f"image_id,rad_id,{head}", *rows)
    else:
      write(root / "annotations/image_labels_test.csv", f"image_id,{head}",
            f"u0,{labels(head, {'Pneumothorax': 1}, '0')}")
  for i, name in enumerate((*(f"train/{image}" for image in votes), "test/u0")):
    radiograph(root / f"{name}.dicom", i)


def radiograph(path: Path, seed: int) -> None:
  """Writes noise as a small DICOM file."""
  from pydicom.dataset import Dataset, FileMetaDataset
  from pydicom.uid import ExplicitVRLittleEndian

  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.random.default_rng(seed).integers(0, 4096, (24, 20)).astype(np.uint16)
  file = Dataset()
  file.file_meta = FileMetaDataset()
  file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
  file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
  file.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{seed}"
  file.PhotometricInterpretation = "MONOCHROME2"
  file.Rows, file.Columns = pixels.shape
  file.SamplesPerPixel, file.PixelRepresentation = 1, 0
  file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
  file.PixelData = pixels.tobytes()
  file.save_as(path, enforce_file_format=True)


REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{uid}"/>
<MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION"/>
<AbstractText Label="FINDINGS">As said.</AbstractText>
<AbstractText Label="IMPRESSION">{uid}.</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH>{major}<automatic>heart</automatic></MeSH>
{images}
</eCitation>
"""


def make_openi(root: Path) -> None:
  """Open-i with the table of views that circulates with it."""
  terms = {1: ["normal"], 2: ["Cardiomegaly/borderline", "Pleural Effusion/right/small"],
           3: ["Calcified Granuloma/lung/upper lobe/left"], 10: ["Spine/degenerative"],
           11: ["No Indexing"]}
  views = ["uid,filename,projection"]
  for uid, major in terms.items():
    # The first report's images are named in a way of their own.
    names = [f"CXR{uid}_{'1_' if uid == 1 else ''}IM-0001-{i}001" for i in (1, 2)]
    text = REPORT.format(uid=uid, major="".join(f"<major>{term}</major>" for term in major),
                         images="".join(f'<parentImage id="{name}"/>' for name in names))
    write(root / f"ecgen-radiology/{uid}.xml", text.rstrip())
    for name, view in zip(names, ("Frontal", "Lateral"), strict=True):
      views.append(f"{uid},{uid}_{name[name.index('IM-'):]}.dcm.png,{view}")
      picture(root / f"NLMCXR_png/{name}.png", uid)
  write(root / "indiana_projections.csv", *views)


MAKERS = {"mimic-cxr": make_mimic, "cxr-lt": make_cxr_lt, "chexpert": make_chexpert,
          "chexpert-plus": make_chexpert_plus, "nih": make_nih, "padchest": make_padchest,
          "vindr-cxr": make_vindr, "openi": make_openi}
